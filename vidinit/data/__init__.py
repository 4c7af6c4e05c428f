"""The data room: source row -> index -> decode -> view -> transform -> batch."""
