"""More replicas of a Swarm service when it has much to do, fewer when it has little.

What is decided is pure (`rules`, `decision`, `simulation`); the rest reads, writes and waits.
"""
