"""The files for containers and units are not run here; what they say is held against what there is."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from celery.bin.beat import beat
from celery.bin.worker import worker
from daphne.cli import CommandLineInterface
from django.core.management import get_commands, load_command_class

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "docs/deploy"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
CADDY = (DEPLOY / "Caddyfile").read_text()
UNITS = {path.name: path.read_text() for path in DEPLOY.glob("*.service")}
LISTED = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def commands() -> list[tuple[str, list[str]]]:
    found = [(name, service["command"]) for name, service in OURS.items()]
    for name, text in UNITS.items():
        line = re.search(r"^ExecStart=\S+/python (.+)$", text, re.MULTILINE)
        assert line, name
        found.append((name, ["python", *shlex.split(line[1].replace("%%", "%").replace("%i", "8001"))]))
    return found


@pytest.mark.parametrize(("name", "command"), commands())
def test_every_command_line_is_one_that_its_program_understands(name, command):
    assert command[0] == "python"
    if command[1] == "manage.py":
        loaded = load_command_class(get_commands()[command[2]], command[2])
        loaded.create_parser("manage.py", command[2]).parse_args(command[3:])
        return
    assert command[1] == "-m"
    if command[2] == "daphne":
        CommandLineInterface().parser.parse_args(command[3:])
        return
    assert command[2:5] == ["celery", "-A", "tickstock"]
    part = {"worker": worker, "beat": beat}[command[5]]
    known = {name for option in part.params for name in option.opts}
    assert {word.partition("=")[0] for word in command[6:] if word.startswith("-")} <= known


def test_compose_runs_what_it_promises():
    assert {"timescaledb", "redis", "stream", "worker", "beat", "web", "proxy"} <= SERVICES.keys()
    assert (SERVICES["worker"]["deploy"]["replicas"], SERVICES["web"]["deploy"]["replicas"]) == (2, 2)
    redis = SERVICES["redis"]["command"]
    assert redis[redis.index("--appendonly") + 1] == "yes"
    assert redis[redis.index("--maxmemory-policy") + 1] == "noeviction"
    assert "443:443" in SERVICES["proxy"]["ports"]
    assert not any("ports" in SERVICES[name] for name in ("timescaledb", "redis", "web"))


def test_every_image_is_pinned_and_no_part_of_ours_runs_as_root():
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for image in [*bases, *(service["image"] for service in SERVICES.values())]:
        assert re.search(r":\d+\.\d+\.\d+", image), image
    assert re.search(r"^USER (?!0|root)\d+", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in OURS.values())
    assert all(re.search(r"^User=tickstock$", text, re.MULTILINE) for text in UNITS.values())


def test_each_part_has_the_login_of_its_own_role_and_only_the_stream_the_vendors_key():
    logins = {name: re.match(r"postgresql://(\w+):", service["environment"]["DATABASE_URL"])[1] for name, service in OURS.items()}

    assert logins == {
        "prepare": "tickstock", "stream": "app_stream", "worker": "app_worker", "beat": "app_worker", "web": "app_web",
    }  # fmt: skip
    assert [name for name, service in OURS.items() if "MASSIVE_API_KEY" in service["environment"]] == ["stream"]
    assert [name for name, service in OURS.items() if "TICKSTOCK_ADMIN_PASSWORD" in service["environment"]] == ["prepare"]


def test_every_variable_in_compose_is_one_that_is_read_and_no_secret_is_written_down():
    given = {name for service in OURS.values() for name in service["environment"]}
    text = (ROOT / "compose.yaml").read_text()

    assert given <= LISTED
    for name in re.findall(r"\w*(?:PASSWORD|SECRET_KEY|API_KEY): (.+)", text):
        assert name.startswith("${"), name
    for variable in re.findall(r"\$\{(\w*(?:PASSWORD|KEY))[^:}]*\}", text):
        assert f"${{{variable}}}" not in text, f"{variable} would be empty in silence; write :? and why"


def test_whoever_asks_whether_a_web_process_lives_names_a_host_that_it_lets_in():
    web = SERVICES["web"]
    allowed = re.sub(r"\$\{SITE_HOST[^}]*\}", "desk.example.com", web["environment"]["ALLOWED_HOSTS"]).split(",")
    asked = re.findall(r"'Host': '([^']+)'", web["healthcheck"]["test"][-1]) + re.findall(r"^\s+Host (\S+)$", CADDY, re.MULTILINE)

    assert (len(asked), set(asked) <= set(allowed)) == (2, True), asked


def test_nothing_secret_or_large_enters_the_image():
    ignored = (ROOT / ".dockerignore").read_text().split()

    assert {".git", ".env", ".data", ".venv", "tests"} <= set(ignored)
    assert (ROOT / "docs/deploy/Caddyfile").is_file()
