"""`import_history` from files and REST: what is stored, what is refused, and that a second time changes nothing."""

import gzip
import io
import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketdata import importing
from marketdata.bars.columns import HeaderError, Wanted, check, parse, read_header
from marketdata.history import HistoryError, RestHistory
from marketdata.models import Bar, BarRevision, DailyBar, Dividend, ImportedFile, RejectedEvent, Source, Split, Symbol, SymbolChange
from marketdata.writer import PAST, Writer
from tests.factories import at, make_bar
from tests.rest_server import RestServer

HEADER = "ticker,volume,open,close,high,low,window_start,transactions"
NOW_MS = 1_800_000_000_000
DAY = "2026-11-19"


def ns(clock: str) -> int:
    return at(clock, DAY) * 1_000_000


def line(clock: str = "15:00", *, symbol: str = "ACME", price: str = "10.5", volume: str = "100", high: str | None = None) -> str:
    return f"{symbol},{volume},{price},{price},{high or price},{price},{ns(clock)},7"


def write(path: Path, *lines: str, header: str = HEADER) -> Path:
    text = "\n".join([header, *lines]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def run(*arguments: object) -> dict:
    out = io.StringIO()
    call_command("import_history", *map(str, arguments), "--json", stdout=out, stderr=io.StringIO())
    return json.loads(out.getvalue().splitlines()[-1])


def rows(symbol: str = "ACME") -> dict[str, tuple]:
    found = Bar.objects.filter(symbol=symbol).order_by("timestamp")
    return {f"{bar.timestamp:%H:%M}": (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades, bar.source) for bar in found}


# ---- real files


@pytest.mark.parametrize("day", ["2013-10-08", "2014-06-05", "2014-06-06", "2015-12-28"])
def test_a_real_flat_file_is_stored_to_the_digit_and_a_second_time_changes_nothing(market, recordings, day):
    path = recordings / f"{day}-minute-aggs.csv.gz"
    first, second = run("flatfile", path), run("flatfile", path)

    with gzip.open(path, "rt") as file:
        given = [text.rstrip("\n").split(",") for text in file][1:]
    stored = {
        (bar.symbol_id, int(bar.timestamp.timestamp())): tuple(str(n) for n in (bar.volume, bar.open, bar.close, bar.high, bar.low))
        for bar in Bar.objects.all()
    }
    assert stored == {(row[0], int(row[6]) // 10**9): tuple(row[1:6]) for row in given}
    assert (first["rows"], first["inserted"], first["rejected"]) == (len(given), len(given), 0)
    assert (second["inserted"], second["changed"], second["unchanged"]) == (0, 0, len(given))
    assert not BarRevision.objects.exists()
    assert first["files"][0]["outside_sessions"] == 0


def test_real_daily_bars_are_days_of_the_exchange(market, recordings):
    report = run("flatfile", recordings / "IBM-day-aggs.csv.gz")

    assert report["inserted"] == report["rows"] == DailyBar.objects.count() == 5849
    first = DailyBar.objects.order_by("date").first()
    assert (first.date, first.open, first.volume, first.source) == (date(1998, 1, 2), Decimal("104.5"), 2563200, Source.FLATFILE)
    assert run("flatfile", recordings / "IBM-day-aggs.csv.gz")["changed"] == 0


# ---- what is right and what is not


def test_every_bad_row_is_counted_with_its_reason_and_the_good_ones_are_stored(market, tmp_path):
    good = [line("15:00"), line("15:01", volume="0.5"), line("15:02", symbol="NEW.A")]
    bad = {
        "bad_time": ["ACME,1,1,1,1,1,1795100000000,1", "ACME,1,1,1,1,1,soon,1", "ACME,1,1,1,1,1,,1", "ACME,1,1"],
        "off_minute": [f"ACME,1,1,1,1,1,{ns('15:00') + 1},1", f"ACME,1,1,1,1,1,{ns('15:00:30')},1"],
        "bad_price": [line(price="nan"), line(price="-1"), line(price="0"), line(price="inf"), line(price=""), line(price="1e9")],
        "bad_order": [line(price="10", high="9")],
        "bad_volume": [line(volume="NaN"), line(volume="-1"), line(volume=""), line(volume="many"), line(volume="1e15")],
        "bad_trades": [line() + "x", line().removesuffix("7") + "-7"],
        "bad_columns": [line() + ",8"],
        "bad_symbol": [line(symbol=""), line(symbol="A B"), line(symbol="A" * 21), line(symbol="\\N"), line(symbol="Ä")],
        "not_over": [f"ACME,1,1,1,1,1,{at('15:00', '2090-01-03') * 10**6},1"],
    }
    mixed = [text for texts in bad.values() for text in texts] + good
    random.Random(1).shuffle(mixed)

    report = run("flatfile", write(tmp_path / "x.csv", *mixed, "", line("15:03", symbol="ZVZZT")))

    assert report["files"][0]["reasons"] == {reason: len(texts) for reason, texts in bad.items()}
    assert (report["inserted"], report["rejected"]) == (3, sum(map(len, bad.values())))
    assert report["files"][0]["test_tickers"] == 1
    assert rows() == {
        "15:00": (Decimal("10.5"),) * 4 + (100, 7, Source.FLATFILE),
        "15:01": (Decimal("10.5"),) * 4 + (Decimal("0.5"), 7, Source.FLATFILE),
    }
    assert Symbol.objects.filter(symbol="NEW.A").exists()
    assert not Symbol.objects.filter(symbol="ZVZZT").exists()
    kept = RejectedEvent.objects.get(reason="bad_order")
    assert (kept.symbol, kept.count) == ("ACME", 1)
    assert "between low and high" in kept.detail


def test_rejections_kept_are_bounded_and_none_is_uncounted(market, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "REJECTIONS_KEPT", 5)

    report = run("flatfile", write(tmp_path / "x.csv", line("15:30"), *[line(price="-1")] * 40))

    assert report["rejected"] == 40
    assert RejectedEvent.objects.count() == 6
    assert sum(RejectedEvent.objects.values_list("count", flat=True)) == 40


def test_of_two_rows_of_one_minute_the_later_stands_however_far_apart_and_every_time(market, tmp_path, monkeypatch):
    monkeypatch.setattr("marketdata.files.BLOCK_BYTES", 400)
    between = [line(f"16:{minute:02}") for minute in range(30)]
    path = write(tmp_path / "x.csv", line(price="1"), line(price="2"), *between, line(price="3"))

    first, second = run("flatfile", path), run("flatfile", path)

    assert rows()["15:00"][0] == 3
    assert first["files"][0]["duplicates"] == 1
    assert (second["inserted"], second["changed"]) == (0, 0)


def test_what_a_block_meets_in_the_table_is_replaced_and_all_others_of_it_are_new(market, tmp_path, monkeypatch):
    monkeypatch.setattr("marketdata.files.BLOCK_BYTES", 400)  # some ten lines, so that nearly every block begins within a symbol
    minutes = [f"15:{minute:02}" for minute in range(7)]
    path = write(tmp_path / "x.csv", *(line(clock, symbol=f"S{number}") for number in range(6) for clock in minutes))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    first = run("flatfile", path)
    later = write(
        tmp_path / "y.csv", line(symbol="NEW.A"), line("15:03", symbol="S1", price="11"), line("15:30", symbol="S1"), line(symbol="ZNEW")
    )
    os.utime(later, (1_700_000_100, 1_700_000_100))

    second, third = run("flatfile", later), run("flatfile", later)

    assert (first["inserted"], first["changed"]) == (42, 0)
    assert {number: len(rows(f"S{number}")) for number in range(6)} == {0: 7, 1: 8, 2: 7, 3: 7, 4: 7, 5: 7}
    assert (second["inserted"], second["changed"]) == (3, 1)
    assert (third["inserted"], third["changed"]) == (0, 0)
    assert BarRevision.objects.get().timestamp == Bar.objects.get(revision=1).timestamp
    assert [rows("NEW.A")["15:00"], rows("ZNEW")["15:00"]] == [rows("S0")["15:00"]] * 2


def test_a_file_published_again_wins_and_an_older_one_does_not_come_back(market, tmp_path):
    path = write(tmp_path / "x.csv", line(price="10"))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    old = path.read_bytes()
    run("flatfile", path)
    write(path, line(price="11"))
    os.utime(path, (1_700_000_100, 1_700_000_100))

    assert run("flatfile", path)["changed"] == 1
    path.write_bytes(old)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert run("flatfile", path)["changed"] == 0
    assert rows()["15:00"][0] == 11
    assert BarRevision.objects.get().open == 10


def test_the_stream_does_not_overwrite_a_flat_file_and_an_operator_overwrites_both(writer, tmp_path):
    run("flatfile", write(tmp_path / "x.csv", line(price="10")))
    writer.write([make_bar(5.0, time=at("15:00", DAY), symbol="ACME", version=10**15)])
    assert rows()["15:00"][0] == 10

    run("csv", write(tmp_path / "y.csv", f"ACME,{DAY}T15:00:00Z,12,12,12,12,5", header="symbol,timestamp,open,high,low,close,volume"))

    assert rows()["15:00"][0] == 12


def test_an_operators_newest_import_stands_and_may_be_repeated_and_taken_back(market, tmp_path, monkeypatch):
    header = "symbol,timestamp,open,high,low,close,volume"
    one, two = (write(tmp_path / f"{p}.csv", f"ACME,{DAY}T15:00:00Z,{p},{p},{p},{p},5", header=header) for p in (1, 2))
    moments = iter(datetime(2026, 11, 20, 12, 0, second, tzinfo=UTC) for second in range(10))
    real = importing.import_file
    monkeypatch.setattr(
        "marketdata.management.commands.import_history.import_file", lambda *args, **more: real(*args, **{**more, "now": next(moments)})
    )

    assert [run("csv", path)["changed"] for path in (one, one, two, two, one)] == [0, 0, 1, 0, 1]
    assert rows()["15:00"][0] == 1


# ---- forms of a file


TIMES = [
    f"{DAY}T15:00:00Z",
    f"{DAY} 15:00",
    f"{DAY} 15:00:00.000",
    f"{DAY}T10:00:00-05:00",
    f"{DAY.replace('-', '/')} 15:00",
    f"{DAY.replace('-', '')} 15:00",
    *(str(at("15:00", DAY) * 10**power // 1000) for power in (0, 3, 6, 9)),
    f"{at('15:00', DAY) // 1000}.0",
]


def checked(text: str, *, header: str, **more):
    wanted = {"days": False, "flat": False, "zone": "UTC", "now_ms": NOW_MS, **more}
    return check(parse(text.encode(), read_header(header, flat=wanted["flat"], one_symbol=False)), Wanted(**wanted), first_row=0)


@pytest.mark.parametrize("time", TIMES)
def test_a_moment_is_read_in_every_notation(time):
    assert checked(f"A,{time},1,1,1,1,5", header="symbol,timestamp,open,high,low,close,volume").good["at"].to_list() == [at("15:00", DAY)]


@pytest.mark.parametrize("time", [*TIMES, DAY, f"{DAY}T00:00:00-05:00", f"{DAY}T00:00:00Z", str(at("00:00", DAY)), str(at("05:00", DAY))])
def test_a_day_is_read_in_every_notation(time):
    days = checked(f"A,{time},1,1,1,1,5", header="symbol,date,open,high,low,close,volume", days=True).good["at"].to_list()

    assert days == [date.fromisoformat(DAY)]


def test_a_time_without_offset_is_of_the_zone_that_was_named():
    text = "A,2026-07-01 09:30,1,1,1,1,5\nA,2026-12-01 09:30,1,1,1,1,5"

    found = checked(text, header="symbol,time,open,high,low,close,volume", zone="America/New_York").good["at"].to_list()

    assert found == [at("13:30", "2026-07-01"), at("14:30", "2026-12-01")]


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("Symbol;Timestamp;Open;High;Low;Close;Volume;VWAP;Trades", f"A;{TIMES[0]};1;3;1;2;5;1.5;9"),
        ("ticker\tdate\ttime\to\th\tl\tc\tv\tvw\tn\tnote", f"A\t{DAY}\t15:00\t1\t3\t1\t2\t5\t1.5\t9\thello"),
        ('\ufeff"sym","open","high","low","close","vol","t","vwap","n"', f'"A","1","3","1","2","5","{TIMES[0]}","1.5","9.0"'),
        ("symbol,timestamp,open,high,low,close,volume,vwap,trades", f'A,{TIMES[0]}, 1 ,3,1,2,"5",1.5,9\r\n'),
    ],
)
def test_columns_are_found_by_name_in_any_order_and_with_any_separator(header, text):
    (row,) = checked(text, header=header).good.drop("row").iter_rows()

    assert row == ("A", at("15:00", DAY), "1", "3", "1", "2", "5", "1.5", 9)


def test_a_stray_quote_costs_its_own_line_only():
    text = f'A,{TIMES[0]},"1,1,1,1,5\nB,{TIMES[0]},1,1,1,1,5\n'

    found = checked(text, header="symbol,timestamp,open,high,low,close,volume")

    assert found.good["symbol"].to_list() == ["B"]
    assert found.bad.height == 1


@pytest.mark.parametrize(
    ("header", "word"),
    [("a,b,c", "symbol"), ("symbol,timestamp,open,high,low,close", "volume"), ("symbol,ticker,t,o,h,l,c,v", "two columns"), ("", "lacks")],
)
def test_a_header_that_lacks_something_is_named(header, word):
    with pytest.raises(HeaderError, match=word):
        read_header(header, flat=False, one_symbol=False)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_no_bytes_whatsoever_break_the_reader(noise, flat, days):
    header = HEADER if flat else "symbol,timestamp,open,high,low,close,volume"
    good = f"ACME,100,10.5,10.5,10.5,10.5,{at('05:00', DAY) * 10**6},7" if flat else f"ACME,{DAY},10.5,10.5,10.5,10.5,100"
    block = noise.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n" + good.encode()

    found = check(parse(block, read_header(header, flat=flat, one_symbol=False)), Wanted(days, flat, "UTC", NOW_MS), first_row=0)

    assert "ACME" in found.good["symbol"].to_list()


def test_parquet_is_read_like_text(market, tmp_path):
    start = datetime(2026, 11, 19, 15, tzinfo=UTC)
    frame = pl.DataFrame(
        {"symbol": ["ACME"], "timestamp": [start], "open": [10.1], "high": [10.3], "low": [10.1], "close": [10.2], "volume": [1234.5]}
    )
    frame.write_parquet(tmp_path / "x.parquet")

    assert run("csv", tmp_path / "x.parquet")["inserted"] == 1
    assert rows() == {"15:00": (Decimal("10.1"), Decimal("10.3"), Decimal("10.1"), Decimal("10.2"), Decimal("1234.5"), None, 60)}
    assert run("csv", tmp_path / "x.parquet")["changed"] == 0


def test_a_file_of_one_symbol_need_not_name_it(market, tmp_path):
    path = write(tmp_path / "x.csv", f"{DAY}T15:00:00Z,1,1,1,1,5", header="timestamp,open,high,low,close,volume")

    assert run("csv", path, "--symbols", "ACME")["inserted"] == 1
    assert list(rows()) == ["15:00"]


def test_symbols_and_days_that_nobody_asked_for_are_left_out(market, tmp_path):
    path = write(tmp_path / "x.csv", line(), line(symbol="OTHER"), f"ACME,1,1,1,1,1,{at('15:00', '2026-11-18') * 10**6},1")

    report = run("flatfile", path, "--symbols", "ACME", "--from", DAY, "--to", DAY)

    assert (report["inserted"], report["files"][0]["skipped"]) == (1, 2)


def test_the_report_counts_minutes_outside_sessions_and_absent_ones(market, tmp_path):
    closed = f"ACME,1,1,1,1,1,{at('15:00', '2026-11-14') * 10**6},1"  # a Saturday

    report = run("flatfile", write(tmp_path / "x.csv", line("15:00"), line("15:01"), line("10:00"), closed))["files"][0]

    assert (report["outside_sessions"], report["absent"]) == (1, {DAY: 388})


# ---- files that are none


def test_a_file_that_breaks_off_is_stored_as_far_as_it_goes_and_says_so(market, tmp_path, monkeypatch):
    monkeypatch.setattr("marketdata.files.BLOCK_BYTES", 2_000)
    rng = random.Random(5)
    path = write(tmp_path / "x.csv.gz", *[line(f"{15 + n // 60}:{n % 60:02}", price=f"{rng.uniform(1, 99):.4f}") for n in range(240)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])

    with pytest.raises(CommandError, match="damaged or incomplete"):
        run("flatfile", path)

    assert 0 < Bar.objects.count() < 240
    assert ImportedFile.objects.get().finished_at is None
    path.write_bytes(whole)
    assert run("flatfile", path)["unchanged"] > 0
    assert Bar.objects.count() == 240


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"ticker,volume,open\nA,1,2\n", "close, high, low, window_start, transactions"),
        ("noise.csv.gz", b"\x1f\x8b" + bytes(range(200)), "damaged"),
        ("noise.parquet", b"PAR1" + bytes(range(200)), "Parquet"),
        ("page.csv", b"<html><body>Access denied</body></html>", "lacks"),
        ("nowhere.csv", None, "No such file"),
    ],
)
def test_what_is_no_file_of_bars_is_one_sentence_and_status_one(market, tmp_path, name, content, word):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(CommandError, match=word) as error:
        run("flatfile", path)

    assert error.value.returncode == 1
    assert not ImportedFile.objects.exists()


def test_days_are_not_stored_as_minutes_nor_minutes_as_days(market, tmp_path):
    days = write(tmp_path / "d.csv", *[f"A,1,1,1,1,1,{at('05:00', f'2026-11-{day}') * 10**6},1" for day in (16, 17, 18)])
    minutes = write(tmp_path / "m.csv", *[line(f"15:0{minute}") for minute in range(5)])

    with pytest.raises(CommandError, match="--timespan day"):
        run("flatfile", days)
    with pytest.raises(CommandError, match="--timespan minute"):
        run("flatfile", minutes, "--timespan", "day")
    assert not Bar.objects.exists()
    assert not DailyBar.objects.exists()


def test_one_bad_file_does_not_keep_the_others_out(market, tmp_path):
    write(tmp_path / "a.csv", header="nothing,here")
    write(tmp_path / "b.csv", line())

    with pytest.raises(CommandError, match=r"a\.csv"):
        run("flatfile", tmp_path)

    assert list(rows()) == ["15:00"]


# ---- going on


class StopError(Exception):
    pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=4)
@given(stop=st.integers(1, 9))
def test_an_interrupted_import_goes_on_after_its_last_commit(market, tmp_path, stop):
    Bar.objects.all().delete()
    ImportedFile.objects.all().delete()
    path = write(tmp_path / "x.csv", *[line(f"{15 + n // 60}:{n % 60:02}") for n in range(120)])
    wanted = Wanted(days=False, flat=True, zone="UTC", now_ms=NOW_MS)
    writer = Writer(PAST)
    writer.acquire_within(20)
    seen = []

    def interrupt(part: float, done: int) -> None:
        seen.append(done)
        if len(seen) == stop:
            raise StopError

    def once(**more):
        return importing.import_file(path, writer, wanted, source=Source.FLATFILE, now=datetime.now(UTC), **more)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("marketdata.files.BLOCK_BYTES", 600)
            with pytest.raises(StopError):
                once(progress=interrupt)
            assert Bar.objects.count() == ImportedFile.objects.get().rows_done == seen[-1]
            report = once()
    finally:
        writer.close()

    assert report.resumed_at == seen[-1]
    assert (report.rows, report.inserted, report.unchanged) == (120, 120, 0)
    assert Bar.objects.count() == 120


# ---- corporate actions


def test_splits_dividends_and_changes_come_from_csv_and_twice_change_nothing(market, tmp_path):
    splits = write(
        tmp_path / "s.csv", "AAPL,2020-08-31,1,4", "AAPL,2014-06-09,1,7", "AAPL,soon,1,7", "A B,2014-06-09,1,7", "AAPL,2014-06-08,0,7",
        header="ticker,execution_date,split_from,split_to",
    )  # fmt: skip
    dividends = write(
        tmp_path / "d.csv", "KO,2026-03-13,0.53,2026-04-01", "KO,2026-06-12,0.53,", header="symbol,ex_date,cash_amount,pay_date"
    )
    changes = write(tmp_path / "c.csv", "FB,META,2022-06-09", header="old,new,date")

    first = [
        run("csv", path, "--kind", kind)["actions"][0]
        for kind, path in (("splits", splits), ("dividends", dividends), ("changes", changes))
    ]
    again = run("csv", splits, "--kind", "splits")["actions"][0]

    assert [(report["inserted"], report["rejected"]) for report in first] == [(2, 3), (2, 0), (1, 0)]
    assert (again["inserted"], again["changed"], again["rejected"]) == (0, 0, 3)
    assert "positive" in " ".join(first[0]["reasons"])
    assert (Split.objects.count(), Dividend.objects.count(), SymbolChange.objects.count()) == (2, 2, 1)
    write(splits, "AAPL,2020-08-31,1,5", header="ticker,execution_date,split_from,split_to")
    assert run("csv", splits, "--kind", "splits")["actions"][0]["changed"] == 1


def test_a_csv_of_actions_without_a_column_is_refused(market, tmp_path):
    with pytest.raises(CommandError, match="split_from"):
        run("csv", write(tmp_path / "s.csv", "AAPL,2020-08-31,4", header="symbol,date,split_to"), "--kind", "splits")


# ---- REST


class Rest(RestServer):
    """Massive's REST, scripted: `answers[path]` is a list of (status, headers, body), the last one stays."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, list[tuple[int, dict[str, str], object]]] = {}

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        script = self.answers.get(urlsplit(path).path, [(404, {}, {"status": "NOT_FOUND"})])
        status, headers, body = script.pop(0) if len(script) > 1 else script[0]
        return status, headers, body if isinstance(body, bytes) else json.dumps(body).encode()

    @property
    def asked(self) -> list[tuple[str, dict[str, list[str]], str | None]]:
        """Return path, parameters and key of each request."""
        addresses = [urlsplit(path) for path in self.requests]
        return [(address.path, parse_qs(address.query), key) for address, key in zip(addresses, self.keys, strict=True)]


@pytest.fixture
def rest() -> Iterator[Rest]:
    server = Rest()
    yield server
    server.stop()


BEGIN, END = datetime(2026, 11, 19, 15, tzinfo=UTC), datetime(2026, 11, 19, 16, tzinfo=UTC)
FIRST_PAGE = f"/v2/aggs/ticker/ACME/range/1/minute/{at('15:00', DAY)}/{at('16:00', DAY)}"


def agg(clock: str, **more) -> dict:
    return {"t": at(clock, DAY), "o": 10.0, "h": 10.5, "l": 9.5, "c": 10.25, "v": 100, "vw": 10.1, "n": 5, **more}


def minutes(rest: Rest) -> list[str]:
    history = RestHistory(url=rest.url, key="secret")
    bars = history.minutes("ACME", BEGIN, END, asked_at=datetime(2026, 11, 20, tzinfo=UTC))
    return [f"{datetime.fromtimestamp(bar.opened_at_ms / 1000, UTC):%H:%M}" for bar in bars]


def test_pages_are_followed_on_our_own_host_only_empty_ones_too_and_edges_come_once(rest):
    rest.answers = {
        FIRST_PAGE: [(200, {}, {"results": [agg("15:00"), agg("15:01")], "next_url": "https://elsewhere.example/two?cursor=abc"})],
        "/two": [(200, {}, {"status": "OK", "next_url": "https://elsewhere.example/three"})],
        "/three": [(200, {}, {"results": [agg("15:01"), agg("15:02")]})],
    }

    assert minutes(rest) == ["15:00", "15:01", "15:02"]
    assert [(path, query.get("cursor"), key) for path, query, key in rest.asked[1:]] == [
        ("/two", ["abc"], "Bearer secret"),
        ("/three", None, "Bearer secret"),
    ]
    assert rest.asked[0][1]["adjusted"] == ["false"]


def test_a_server_that_says_wait_is_waited_for(rest):
    rest.answers = {FIRST_PAGE: [(429, {"Retry-After": "1"}, {}), (500, {}, {}), (200, {}, {"results": [agg("15:00")]})]}

    assert minutes(rest) == ["15:00"]
    assert len(rest.asked) == 3


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ((200, {}, b'{"results": [{"t": 1'), "cannot be read"),
        ((200, {}, {"results": [{"o": 1}]}), "without its time"),
        ((401, {}, {"error": "Unknown API Key"}), "MASSIVE_API_KEY"),
        ((403, {}, {"message": "not entitled"}), "plan"),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_never_an_empty_list(rest, answer, word):
    rest.answers = {FIRST_PAGE: [answer]}

    with pytest.raises(HistoryError, match=word):
        minutes(rest)


def test_a_page_that_leads_back_to_itself_ends(rest, monkeypatch):
    monkeypatch.setattr("marketdata.history.PAGE", 10)
    rest.answers = {FIRST_PAGE: [(200, {}, {"results": [agg("15:00")], "next_url": rest.url + FIRST_PAGE})]}

    with pytest.raises(HistoryError, match="again and again"):
        minutes(rest)


def test_a_decimal_volume_wins_over_a_rounded_one(rest):
    rest.answers = {FIRST_PAGE: [(200, {}, {"results": [agg("15:00", v=101, dv="100.5")]})]}

    (bar,) = RestHistory(url=rest.url, key="k").minutes("ACME", BEGIN, END, asked_at=datetime(2026, 11, 20, tzinfo=UTC))

    assert bar.volume == 100_500_000_000


def test_rest_imports_bars_splits_and_dividends(market, rest, settings):
    settings.MASSIVE_REST_URL, settings.MASSIVE_API_KEY = rest.url, "k"
    day = f"{DAY}T05:00"
    rest.answers = {
        f"/v2/aggs/ticker/ACME/range/1/day/{DAY}/{DAY}": [(200, {}, {"results": [agg("05:00")]})],
        "/stocks/v1/splits": [
            (200, {}, {"results": [{"ticker": "ACME", "execution_date": DAY, "split_from": 1, "split_to": 2.5}], "next_url": f"{rest.url}/more"})
        ],
        "/more": [(200, {}, {"results": [{"ticker": "ACME", "execution_date": "2026-11-01", "split_from": 2, "split_to": 1}]})],
        "/stocks/v1/dividends": [
            (200, {}, {"results": [{"ticker": "ACME", "ex_dividend_date": DAY, "cash_amount": 0.25, "pay_date": "2026-12-01"}]})
        ],
    }  # fmt: skip

    report = run("massive", "--timespan", "day", "--symbols", "ACME", "--from", DAY, "--to", DAY, "--corporate-actions")

    assert (report["read"], report["changed"], day[:10]) == (1, 1, DailyBar.objects.get().date.isoformat())
    assert [(action["kind"], action["inserted"]) for action in report["actions"]] == [("splits", 2), ("dividends", 1)]
    assert sorted(Split.objects.values_list("split_from", "split_to")) == [(1, Decimal("2.5")), (2, 1)]
    assert Dividend.objects.get().pay_date == date(2026, 12, 1)
    assert next(query["ticker.any_of"] for path, query, _ in rest.asked if path == "/stocks/v1/splits") == ["ACME"]


def test_an_interrupted_rest_import_asks_only_for_the_rest(market, rest, settings):
    settings.MASSIVE_REST_URL, settings.MASSIVE_API_KEY = rest.url, "k"
    asked = f"/v2/aggs/ticker/{{}}/range/1/day/{DAY}/{DAY}"
    fine = (200, {}, {"results": [agg("05:00")]})
    rest.answers = {asked.format("A"): [fine], asked.format("B"): [(403, {}, {"message": "no"}), fine], asked.format("C"): [fine]}
    options = ("massive", "--timespan", "day", "--symbols", "A,B,C", "--from", DAY, "--to", DAY)

    with pytest.raises(CommandError, match="plan"):
        run(*options)
    run(*options)

    assert [path.split("/")[4] for path, _, _ in rest.asked] == ["A", "B", "B", "C"]
    assert DailyBar.objects.count() == 3
    run(*options)
    assert len(rest.asked) == 7
