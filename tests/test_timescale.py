"""On TimescaleDB the table of bars is a hypertable with the key and the indexes that it has everywhere."""

from django.db import connection


def test_bars_live_in_a_hypertable_of_one_day_chunks_with_their_primary_key(db):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, time_interval = interval '1 day' FROM timescaledb_information.dimensions WHERE hypertable_name = 'ohlcv_1min'"
        )
        assert cursor.fetchall() == [("timestamp", True)]
        cursor.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'ohlcv_1min'::regclass AND contype = 'p'")
        assert cursor.fetchall() == [('PRIMARY KEY (symbol, "timestamp")',)]
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'ohlcv_1min' ORDER BY 1")
        assert [name for (name,) in cursor.fetchall()] == [
            "ohlcv_1min_cover_idx",
            "ohlcv_1min_partial_idx",
            "ohlcv_1min_pkey",
            "ohlcv_1min_ts_idx",
            "ohlcv_1min_updated_brin",
        ]
