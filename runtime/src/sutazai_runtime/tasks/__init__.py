"""The platform's Celery app. `celery -A sutazai_runtime.tasks.worker worker -Q inference` consumes; `publish` sends."""
