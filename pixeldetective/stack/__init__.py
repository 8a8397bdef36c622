"""The local stack: Kafka, Qdrant and the workers on one machine, without Docker.

In the order things happen: `install` fetches the servers, `addresses` chooses ports, `kafka_server` and
`qdrant_server` configure them, `programs` lists what runs, `supervisor` (with `guard`) keeps it running, `local` holds
the verbs up and down.
"""
