"""What runs on the agent hosts of the platform. Each module can be imported alone; extras say what it needs."""

__version__ = "0.1.0"
