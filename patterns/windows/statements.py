"""The statements that read windows: one for minutes, one for the intervals made of them, one for days; all answer the same columns."""

QUIET = "15 seconds"
"""A bar whose last minute is not there is over when its end, and the last change of it, are older than this."""

# The bars asked for with those before and after them: `rows` is a statement of the bars between two bounds
_AROUND = """
        (SELECT * FROM {table} WHERE symbol = wanted.symbol AND {at} < wanted.first AND {at} >= wanted.floor
         ORDER BY {at} DESC LIMIT %(before)s)
        UNION ALL
        (SELECT * FROM {table} WHERE symbol = wanted.symbol AND {at} >= wanted.first AND {at} < wanted.last AND {at} >= wanted.floor)
        UNION ALL
        (SELECT * FROM {table} WHERE symbol = wanted.symbol AND {at} >= wanted.last AND {at} >= wanted.floor
         ORDER BY {at} LIMIT %(after)s)
"""

_ANSWER = """
    SELECT wanted.run::int4 - 1, (extract(epoch FROM bar.timestamp) * 1000)::int8, bar.open::float8, bar.high::float8, bar.low::float8,
           bar.close::float8, bar.volume::float8, coalesce(bar.vwap::float8, 'NaN'), bar.revision::int4, bar.whole, bar.over_alone,
           coalesce(bar.session_open, -1)::int8, coalesce(bar.part_turnover, 'NaN')::float8, coalesce(bar.part_volume, 'NaN')::float8,
           coalesce(ledger.bar_revision, -1)::int4, coalesce(ledger.session_turnover, 'NaN')::float8,
           coalesce(ledger.session_volume, 'NaN')::float8, coalesce(ledger.session_spread, 'NaN')::float8,
           coalesce(ledger.session_balance, 'NaN')::float8
    FROM unnest(%(symbols)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[]) WITH ORDINALITY AS asked(symbol, first, last, run)
    CROSS JOIN LATERAL (
        SELECT symbol::varchar AS symbol, run, {bounds}
        FROM (SELECT asked.symbol, asked.run, timestamptz 'epoch' + asked.first * interval '1 millisecond' AS opens,
                     timestamptz 'epoch' + asked.last * interval '1 millisecond' AS newest) AS moments
    ) AS wanted
    CROSS JOIN LATERAL (
{bars}
    ) AS bar
    LEFT JOIN LATERAL (
        SELECT * FROM scanned_bars WHERE symbol = wanted.symbol AND timeframe = %(timeframe)s AND timestamp = bar.timestamp
        AND bar.timestamp >= wanted.opens - %(known_from)s LIMIT 1
    ) AS ledger ON true
"""

_MOMENTS = "opens, opens AS first, newest + %(length)s * interval '1 millisecond' AS last, %(floor)s::timestamptz AS floor"
_DATES = """opens, (opens AT TIME ZONE 'America/New_York')::date AS first, (newest AT TIME ZONE 'America/New_York')::date + 1 AS last,
               (%(floor)s::timestamptz AT TIME ZONE 'America/New_York')::date AS floor"""

_MINUTES = f"""
        SELECT timestamp, open, high, low, close, volume, vwap, revision, (complete OR is_final) AS whole, true AS over_alone,
               NULL::bigint AS session_open, NULL::numeric AS part_turnover, NULL::numeric AS part_volume
        FROM ({_AROUND.format(table="ohlcv_1min", at="timestamp")}) AS minute
"""  # noqa: S608 - constant text

# Sums are numeric, hence exact: they do not depend on the order in which PostgreSQL adds
_BUCKETS = f"""
        SELECT bucket AS timestamp, (array_agg(open ORDER BY timestamp))[1] AS open, max(high) AS high, min(low) AS low,
               (array_agg(close ORDER BY timestamp DESC))[1] AS close, sum(volume) AS volume,
               CASE WHEN bool_and(vwap IS NOT NULL OR volume = 0) AND sum(volume) > 0 THEN sum(vwap * volume) / sum(volume) END AS vwap,
               least(sum(revision + 1) - 1, 2147483647) AS revision, bool_and(complete OR is_final) AS whole,
               max(timestamp) + interval '1 minute' >= bucket + %(length)s * interval '1 millisecond'
               OR (bucket + %(length)s * interval '1 millisecond' <= %(now)s::timestamptz - interval '{QUIET}'
                   AND max(updated_at) <= %(now)s::timestamptz - interval '{QUIET}') AS over_alone,
               (extract(epoch FROM max((%(opens)s::timestamptz[])[place]) FILTER (WHERE regular)) * 1000)::bigint AS session_open,
               sum(price * volume) FILTER (WHERE regular) AS part_turnover, sum(volume) FILTER (WHERE regular) AS part_volume
        FROM (
            SELECT minute.*, date_bin(%(length)s * interval '1 millisecond', timestamp, timestamptz 'epoch') AS bucket, session.place,
                   coalesce(timestamp < (%(closes)s::timestamptz[])[session.place], false) AS regular,
                   CASE WHEN vwap >= low AND vwap <= high THEN vwap ELSE (high + low + close) / 3 END AS price
            FROM ({_AROUND.format(table="ohlcv_1min", at="timestamp")}) AS minute
            CROSS JOIN LATERAL (SELECT width_bucket(timestamp, %(opens)s::timestamptz[]) AS place) AS session
        ) AS placed GROUP BY bucket
"""  # noqa: S608 - constant text

# A day has no revision of its own; the second in which it was last changed tells its states apart
_DAYS = f"""
        SELECT day.date::timestamp AT TIME ZONE 'America/New_York' AS timestamp, day.open, high, low, day.close, volume, vwap,
               extract(epoch FROM updated_at - timestamptz '2000-01-01')::int AS revision,
               coalesce(session.close, (day.date + 1)::timestamp AT TIME ZONE 'America/New_York') <= %(now)s AS whole, true AS over_alone,
               NULL::bigint AS session_open, NULL::numeric AS part_turnover, NULL::numeric AS part_volume
        FROM ({_AROUND.format(table="ohlcv_daily", at="date")}) AS day LEFT JOIN sessions AS session USING (date)
"""  # noqa: S608 - constant text

WINDOWS = {
    "1m": _ANSWER.format(bounds=_MOMENTS, bars=_MINUTES),
    **dict.fromkeys(("5m", "15m", "1h"), _ANSWER.format(bounds=_MOMENTS, bars=_BUCKETS)),
    "1d": _ANSWER.format(bounds=_DATES, bars=_DAYS),
}

SESSION_BEFORE = """
    SELECT asked.place::int4 - 1, coalesce(last.high, 'NaN')::float8, coalesce(last.low, 'NaN')::float8, coalesce(last.close, 'NaN')::float8,
           coalesce(usual.volume, 'NaN')::float8
    FROM unnest(%(symbols)s::text[], %(dates)s::date[]) WITH ORDINALITY AS asked(symbol, date, place)
    LEFT JOIN ohlcv_daily AS last ON last.symbol = asked.symbol AND last.date = asked.date
    LEFT JOIN LATERAL (
        SELECT CASE WHEN count(*) = %(sessions)s THEN avg(volume) END AS volume
        FROM (SELECT volume FROM ohlcv_daily WHERE symbol = asked.symbol AND date <= asked.date ORDER BY date DESC LIMIT %(sessions)s) AS days
    ) AS usual ON true
"""
