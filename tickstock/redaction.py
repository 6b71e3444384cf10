"""Keep secrets out of the logs, whoever wrote them in. The last net: nothing of ours logs one on purpose. Named in settings only."""

import logging
import re
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

MASK = "[secret]"
SHORTEST = 6  # shorter words would mask half of every line
FORMS = re.compile(
    r"ts_[a-z0-9]{10}_[A-Za-z0-9]{43}"  # a token of ours
    r"|(?<=[?&]apiKey=)[^&\s\"']+"  # Massive's, in an address
    r"|(?<=[Bb]earer )[^\s\"',]+"
    r"|(?<=sessionid=)[a-z0-9]{32}"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"  # user and password of a URL
)


def secrets_of(values: Iterable[str]) -> list[str]:
    """Return the texts to mask for these settings: plain ones as they are, of URLs the password, each also as a URL would write it."""
    plain = [urlsplit(value).password or "" if "://" in value else value for value in values]
    return sorted({form for text in plain for form in (text, quote(text, safe="")) if len(form) >= SHORTEST}, key=len, reverse=True)


class NoSecrets(logging.Filter):
    """Mask known secrets, and whatever looks like one, in the message and in the traceback."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        known = [re.escape(text) for text in secrets_of(secrets)]
        self._pattern = re.compile("|".join([*known, FORMS.pattern]))
        self._formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without its secrets."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            return True  # logging itself tells of arguments that do not fit
        masked = self._pattern.sub(MASK, text)
        if masked != text:
            record.msg, record.args = masked, None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._pattern.sub(MASK, self._formatter.formatException(record.exc_info))
        return True
