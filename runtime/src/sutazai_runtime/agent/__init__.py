"""The agent: takes tasks by HTTP and gRPC, hands them to the queue (or does them itself), and answers."""
