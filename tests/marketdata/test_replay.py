"""`stream_ticks --replay` on real trades, against the same rule computed a second, independent way."""

import gzip
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from django.db import connection

from marketdata.models import Bar, BarRevision, RejectedEvent
from tests.processes import database_url, run_command

ROOT = Path(__file__).resolve().parents[2]
TRADES = "2013-10-08-trades-AIG-BAC-IBM.jsonl.gz"
SECONDS = "2013-10-08-seconds-AIG-BAC-IBM-SPY.jsonl.gz"
REGULAR = (1381239000000, 1381262400000)  # 09:30 to 16:00 New York on 2013-10-08, Unix ms

# Which conditions forbid what, written down again from the vendor's table for this file's ids; others are neutral
NO_OPEN_CLOSE = {2, 5, 7, 10, 12, 13, 15, 16, 20, 21, 22, 29, 32, 33, 37, 52, 53}
NO_HIGH_LOW = {2, 7, 12, 13, 15, 16, 20, 21, 37, 52, 53}
NO_VOLUME = {15, 16, 38}


def frames(path: Path) -> list[bytes]:
    return gzip.open(path).read().splitlines()


def table() -> dict:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT symbol, extract(epoch FROM timestamp)::bigint * 1000, open::float8, high::float8, low::float8, close::float8, "
            "volume::float8 FROM ohlcv_1min"
        )
        return {row[:2]: row[2:] for row in cursor.fetchall()}


def bars_of_trades(path: Path) -> dict:
    """The oracle: eligibility and bars by polars, over the whole file at once."""
    events = pl.DataFrame(
        [event for frame in frames(path) for event in json.loads(frame)],
        schema={"sym": pl.String, "p": pl.Float64, "s": pl.Int64, "t": pl.Int64, "q": pl.Int64, "c": pl.List(pl.Int64)},
    )
    extended = (pl.col("t") < REGULAR[0]) | (pl.col("t") >= REGULAR[1])
    conditions = pl.col("c").fill_null([])

    def forbidden(ids: set[int]) -> pl.Expr:
        banned = pl.when(extended).then(conditions.list.set_difference([12])).otherwise(conditions)
        return banned.list.set_intersection(sorted(ids)).list.len() > 0

    marked = events.with_columns(
        minute=pl.col("t") // 60_000 * 60_000,
        open_close=~forbidden(NO_OPEN_CLOSE),
        high_low=~forbidden(NO_HIGH_LOW),
        counted=conditions.list.set_intersection(sorted(NO_VOLUME)).list.len() == 0,
    ).sort("sym", "t", "q")
    bars = (
        marked.group_by("sym", "minute", maintain_order=True)
        .agg(
            open=pl.col("p").filter(pl.col("open_close")).first(),
            high=pl.col("p").filter(pl.col("high_low")).max(),
            low=pl.col("p").filter(pl.col("high_low")).min(),
            close=pl.col("p").filter(pl.col("open_close")).last(),
            volume=pl.col("s").filter(pl.col("counted")).sum(),
        )
        .filter(pl.col("open").is_not_null())
    )
    return {row[:2]: (*row[2:6], float(row[6])) for row in bars.rows()}


def replay(*paths: Path) -> dict:
    return json.loads(run_command("stream_ticks", "--replay", *map(str, paths), "--json").stdout.splitlines()[-1])


def write_frames(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(gzip.compress(b"\n".join(lines), 1))
    return path


def test_a_real_day_of_trades_becomes_the_oracles_bars_and_stays_them(market, recordings, tmp_path):
    report = replay(recordings / TRADES)

    oracle, stored = bars_of_trades(recordings / TRADES), table()
    assert set(stored) - set(oracle) == set(), "invented"
    assert set(oracle) - set(stored) == set(), "missing"
    assert [key for key in oracle if oracle[key] != stored[key]] == []
    assert (report["frames"], report["events"], report["bars"], report["late_events"], report["rejected_events"]) == (
        48338,
        202595,
        len(oracle),
        0,
        0,
    )
    assert report["seconds"] > 0

    lines = frames(recordings / TRADES)
    generator = random.Random(7)
    jittered = sorted(lines, key=lambda line: json.loads(line)[0]["t"] + generator.uniform(0, 60_000))
    rows = list(Bar.objects.order_by("pk").values())
    for again in (
        recordings / TRADES,
        write_frames(tmp_path / "shuffled.jsonl.gz", jittered),
        write_frames(tmp_path / "doubled.jsonl.gz", [line for line in lines for _ in "ab"]),
    ):
        assert replay(again)["changed"] == 0
    assert list(Bar.objects.order_by("pk").values()) == rows
    assert BarRevision.objects.count() == 0
    assert all(row["complete"] and row["is_final"] for row in rows)


def test_frames_shuffled_within_a_minute_give_the_oracles_bars_at_once(market, recordings, tmp_path):
    lines = frames(recordings / TRADES)[:12_000]
    generator = random.Random(3)
    straight = write_frames(tmp_path / "straight.jsonl.gz", lines)
    shuffled = write_frames(
        tmp_path / "shuffled.jsonl.gz", sorted(lines, key=lambda line: json.loads(line)[0]["t"] + generator.uniform(0, 60_000))
    )

    replay(shuffled)

    assert table() == bars_of_trades(straight)


def test_a_real_day_of_seconds_becomes_their_fold(market, recordings):
    replay(recordings / SECONDS)

    seconds = pl.DataFrame([event for frame in frames(recordings / SECONDS) for event in json.loads(frame)], infer_schema_length=None)
    bars = (
        seconds.with_columns(minute=pl.col("s") // 60_000 * 60_000)
        .sort("s")
        .group_by("sym", "minute", maintain_order=True)
        .agg(pl.col("o").first(), pl.col("h").max(), pl.col("l").min(), pl.col("c").last(), pl.col("v").sum())
    )
    assert table() == {row[:2]: (*map(float, row[2:7]),) for row in bars.rows()}


def test_symbols_and_events_choose_what_is_replayed(market, recordings):
    report = json.loads(
        run_command(
            "stream_ticks", "--replay", str(recordings / SECONDS), "--symbols", "SPY", "--events", "A", "--json"
        ).stdout.splitlines()[-1]
    )
    assert report["bars"] == Bar.objects.count() > 300
    assert set(Bar.objects.values_list("symbol_id", flat=True)) == {"SPY"}


def test_bad_frames_are_kept_with_their_reason_and_good_ones_stored(market, tmp_path):
    good = {"ev": "T", "sym": "ACME", "p": 50.0, "s": 100, "t": 1795185000120, "q": 1}
    lines = [
        b"not json",
        json.dumps([good, {"ev": "AM", "sym": "ACME"}, {"ev": "ZZZ"}, good | {"p": -1, "q": 2}]).encode(),
        b"\xff\x00",
        json.dumps([good | {"q": 3, "t": 1795185001000, "sym": "A\x00B"}]).encode(),
    ]

    report = replay(write_frames(tmp_path / "bad.jsonl.gz", lines))

    assert (report["bars"], report["rejected_events"]) == (1, 6)
    assert sorted(RejectedEvent.objects.values_list("reason", flat=True)) == [
        "bad_symbol",
        "bad_value",
        "bad_value",
        "not_json",
        "not_json",
        "unknown_event",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--replay", "/nowhere/frames.jsonl"], "There is no file"),
        (["--replay", __file__, "--speed", "fast"], "neither max nor a number"),
        (["--replay", __file__, "--events", "X"], "Unknown event kind X; known are AM, A, T, Q, LULD"),
        (["--replay", __file__, "--shard", "3/2"], "not I/N"),
        (["--replay", __file__], "No line of it is a frame"),
        ([], "MASSIVE_API_KEY is not set"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_status_one(market, arguments, words):
    done = run_command("stream_ticks", *arguments, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cut_recording_is_named(market, tmp_path):
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"[]\n" * 1000)[:-20])
    done = run_command("stream_ticks", "--replay", str(tmp_path / "cut.jsonl.gz"), check=False)
    assert done.returncode == 1
    assert "cannot be read" in done.stderr


def test_a_damaged_recording_is_named(market, tmp_path):
    packed = bytearray(gzip.compress(b"\n".join(b'[{"ev":"x%d"}]' % number for number in range(5_000))))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "damaged.jsonl.gz").write_bytes(packed)
    done = run_command("stream_ticks", "--replay", str(tmp_path / "damaged.jsonl.gz"), check=False)
    assert (done.returncode, "cannot be read" in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


def test_an_absurd_time_does_not_make_a_paced_replay_wait_for_it(market, tmp_path):
    frame = '[{"ev":"T","sym":"AAPL","p":10.0,"s":100,"t":%d,"q":%d}]'
    times = [1_795_185_000_000, 1_795_185_001_000, 3_795_185_000_000, 1_795_185_002_000]
    path = write_frames(tmp_path / "absurd.jsonl.gz", [(frame % (time, number)).encode() for number, time in enumerate(times)])

    done = run_command("stream_ticks", "--replay", str(path), "--speed", "10", "--json", timeout=30)

    assert json.loads(done.stdout.splitlines()[-1])["rejected_events"] == 1
    assert Bar.objects.get().volume == 300


def test_a_database_without_tables_is_one_sentence(market, tmp_path):
    path = write_frames(tmp_path / "empty.jsonl.gz", [b"[]"])
    url = re.sub(r"dbname=\S+", "dbname=postgres", database_url())
    for arguments in (["--replay", str(path)], ["--universe", "combo_test"]):
        done = run_command("stream_ticks", *arguments, check=False, DATABASE_URL=url, MASSIVE_API_KEY="k", USE_SYNTHETIC_DATA="0")
        assert (done.returncode, "Run `manage.py migrate` first" in done.stderr, "Traceback" in done.stderr) == (1, True, False), (
            done.stderr
        )


def test_a_second_writer_of_the_shard_is_refused_and_told_who_holds_it(writer, tmp_path):
    path = write_frames(tmp_path / "empty.jsonl.gz", [b"[]"])
    done = run_command("stream_ticks", "--replay", str(path), check=False)
    assert done.returncode == 1
    assert "already written by process" in done.stderr


def test_a_replay_of_python_is_interruptible(market, recordings):
    """SIGTERM ends a paced replay with status 0 and all closed bars committed."""
    from tests.processes import command_environment

    process = subprocess.Popen(
        [sys.executable, "manage.py", "stream_ticks", "--replay", str(recordings / SECONDS), "--speed", "600", "--json"],
        cwd=ROOT, env=command_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    from tests.processes import wait_until

    wait_until(lambda: Bar.objects.count() > 3)
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    report = json.loads(out.splitlines()[-1])
    assert report["bars"] == Bar.objects.count()
    assert set(Bar.objects.values_list("complete", flat=True)) <= {True, False}
