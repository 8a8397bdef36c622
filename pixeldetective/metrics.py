"""The names of all metrics, in Prometheus' conventions, and where they are counted.

Served on `PIXD_METRICS_PORT` of a worker where that is set; `pixd status` does not need them.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

FILES_ANNOUNCED = Counter("pixd_files_announced", "Paths announced on file-events (producers)", ["source"])
FILES_LOOKED_AT = Counter("pixd_files_looked_at", "Looks answered (stream_processors), by outcome", ["outcome"])
BYTES_HASHED = Counter("pixd_hashed_bytes", "Bytes read to compute SHA-256 (stream_processors)")
CONTENT_CHANGES = Counter("pixd_content_changes", "Changes merged into contents (stream_processors), by kind", ["kind"])
RECORDS_ANSWERED = Counter(
    "pixd_records_answered", "Records of contents answered (gpu_consumers), by group and outcome", ["group", "outcome"]
)
BATCH_SECONDS = Histogram("pixd_batch_seconds", "Time of one batch on the device (gpu_consumers)", ["group"])
BATCH_PICTURES = Histogram(
    "pixd_batch_pictures",
    "Pictures in one batch (gpu_consumers)",
    ["group"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
WINDOW = Gauge("pixd_window_records", "Records taken and not yet answered (gpu_consumers)", ["group"])
POINTS_WRITTEN = Counter("pixd_points_written", "Operations confirmed by Qdrant (sinks), by lane", ["lane"])
UPSERT_SECONDS = Histogram("pixd_upsert_seconds", "Time of one confirmed write to Qdrant (sinks)")
LETTERS_WRITTEN = Counter("pixd_dead_letters", "Dead letters written, by stage and error", ["stage", "error"])
SEARCHES = Counter("pixd_searches", "Searches answered (api), by kind", ["kind"])


def serve(port: int) -> None:
    """Serve the metrics of this process on `port`; 0 does nothing. Raises OSError if the port is taken."""
    if port:
        start_http_server(port)
