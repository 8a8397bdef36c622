"""What the five kinds of process share: records, topics, settings, clients, pictures, models, the local stack."""
