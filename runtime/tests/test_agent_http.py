"""The agent by HTTP, without sockets or servers behind it."""

from __future__ import annotations

import asyncio
import uuid

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sutazai_runtime.agent.http import PROBLEM, Health, create_http
from sutazai_runtime.agent.service import LocalService, NotTaken
from sutazai_runtime.agent.settings import AgentSettings
from sutazai_runtime.inference import EchoBackend, Refused, TaskRequest

TASK = {"tenant_id": 42, "agent_id": "agent-1", "prompt": "Why?"}
DIGEST = TaskRequest(**TASK).digest()


class Recorded:
    """A service that notes what it is given and answers what a test says."""

    name, keeps_tasks = "recorded", True

    def __init__(self, answer=None, error=None):
        self.submitted, self.waited, self.answer, self.error = [], [], answer, error

    async def submit(self, task_id, request):
        if self.error:
            raise self.error
        self.submitted.append((task_id, request))

    async def wait(self, task_id, seconds):
        self.waited.append(seconds)
        return self.answer

    async def find(self, task_id):
        if self.error:
            raise self.error
        return self.answer

    async def close(self):
        pass


def ask(service, method="POST", path="/v1/tasks", health=None, **more):
    async def run():
        app = create_http(AgentSettings(max_body_bytes=1000), service, health or Health(), "echo")
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            return await client.request(method, path, **more)

    return asyncio.run(run())


def done(**more):
    return {"status": "done", "output": "Because.", "backend": "echo", "request": DIGEST, **more}


def test_a_task_is_answered():
    service = Recorded(done())
    answer = ask(service, json=TASK)
    assert answer.status_code == 200
    body = answer.json()
    assert body == {"task_id": service.submitted[0][0], "status": "done", "output": "Because.", "backend": "echo"}
    assert uuid.UUID(body["task_id"])
    assert service.waited == [30]


def test_a_request_that_a_gateway_sends_again_is_the_same_task():
    service, edge = Recorded(done()), str(uuid.uuid4())
    assert ask(service, json=TASK, headers={"X-Edge-Request-Id": edge}).json()["task_id"] == edge
    assert ask(service, json={**TASK, "task_id": str(uuid.UUID(int=7))}, headers={"X-Edge-Request-Id": edge}).is_success
    assert ask(service, json=TASK, headers={"X-Edge-Request-Id": "what?"}).is_success
    (first, second, third) = (task_id for task_id, _request in service.submitted)
    assert (first, second) == (edge, str(uuid.UUID(int=7)))
    assert uuid.UUID(third) not in (uuid.UUID(first), uuid.UUID(second))


def test_curl_without_a_content_type_is_understood():
    headers = {"content-type": "application/x-www-form-urlencoded"}
    content = '{"tenant_id": 42, "agent_id": "agent-1", "prompt": "Why?"}'
    assert ask(Recorded(done()), content=content, headers=headers).status_code == 200


def test_who_does_not_wait_is_told_where_the_answer_will_be():
    service = Recorded()
    answer = ask(service, json=TASK, headers={"prefer": "respond-async"})
    assert answer.status_code == 202
    body = answer.json()
    assert body["status"] == "pending"
    assert answer.headers["location"] == body["url"] == f"/v1/tasks/{body['task_id']}"
    assert service.waited == []


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [("wait=5", 5), ("wait=500", 30), ("handling=lenient, wait=2", 2), ("waiter=2", 30), ("wait=x", 30)],
)
def test_a_client_says_how_long_it_waits(prefer, seconds):
    service = Recorded()
    assert ask(service, json=TASK, headers={"prefer": prefer}).status_code == 202, "accepted, and not answered in time"
    assert service.waited == [seconds]


def wrong(answer, status, said):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert body["status"] == status
    assert said in body["detail"]
    return body


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 400, "the body isn't JSON"),
        (b"{", 400, "the body isn't JSON"),
        (b"\xff\xfe", 400, "the body isn't JSON"),
        (b"[" * 999, 400, "the body isn't JSON"),
        (b"[]", 422, "body: "),
        (b"null", 422, "body: "),
        (b'{"tenant_id": 1, "prompt": "x"}', 422, "agent_id: Field required"),
        (
            b'{"tenant_id": -1, "agent_id": "a", "prompt": "x"}',
            422,
            "tenant_id: Input should be greater than or equal to 1",
        ),
        (b'{"tenant_id": 1, "agent_id": "a{b}", "prompt": "x"}', 422, "agent_id: "),
        (b'{"tenant_id": NaN, "agent_id": "a", "prompt": "x"}', 422, "tenant_id: "),
        (b'"' + b"x" * 1000 + b'"', 413, "more than 1000 bytes"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_taken(content, status, said):
    service = Recorded(done())
    wrong(ask(service, content=content), status, said)
    assert service.submitted == []


def test_a_body_that_does_not_say_how_long_it_is_is_refused_when_it_is_too_long():
    async def parts():
        for _ in range(20):
            yield b"x" * 100

    service = Recorded(done())
    wrong(ask(service, content=parts()), 413, "more than 1000 bytes")
    assert service.submitted == []


@given(st.binary(max_size=200))
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_body_is_an_error_of_the_agent(content):
    assert 400 <= ask(Recorded(done()), content=content).status_code < 500


def test_errors_name_the_fields():
    body = wrong(ask(Recorded(), json={"tenant_id": "x", "agent_id": "", "prompt": 7}), 422, "the task isn't taken")
    assert {error["field"] for error in body["errors"]} == {"tenant_id", "agent_id", "prompt"}


def test_a_task_that_could_not_be_enqueued_may_be_asked_for_again():
    answer = ask(Recorded(error=NotTaken("the broker is away")), json=TASK)
    body = wrong(answer, 503, "the broker is away. Ask again with this task_id")
    assert uuid.UUID(body["task_id"])
    assert answer.headers["retry-after"] == "1"


def test_a_task_id_of_another_request_is_a_conflict():
    task_id = str(uuid.uuid4())
    service = Recorded(done(request="another"))
    wrong(ask(service, json={**TASK, "task_id": task_id}), 409, "another request had this task_id first")
    assert service.submitted[0][0] == task_id


def test_a_task_that_failed_says_why():
    wrong(ask(Recorded({"status": "failed", "reason": "no model", "request": DIGEST}), json=TASK), 502, "no model")


def test_an_answer_is_found_later():
    path = f"/v1/tasks/{uuid.uuid4()}"
    assert ask(Recorded(done()), "GET", path).json()["output"] == "Because."
    pending = ask(Recorded(), "GET", path)
    assert (pending.status_code, pending.json()["status"]) == (200, "pending")
    assert ask(Recorded({"status": "failed", "reason": "x"}), "GET", path).json()["status"] == "failed"
    wrong(ask(Recorded(), "GET", "/v1/tasks/seven"), 404, "those are UUIDs")
    wrong(ask(Recorded(error=OSError("away")), "GET", path), 503, "answers can't be read now: away")


def test_other_paths_and_methods_are_problems_too():
    wrong(ask(Recorded(), "GET", "/v2"), 404, "GET /v2: Not Found")
    answer = ask(Recorded(), "DELETE", "/v1/tasks")
    wrong(answer, 405, "Method Not Allowed")
    assert answer.headers["allow"] == "POST"


def test_a_bug_is_not_shown_to_clients():
    body = wrong(ask(Recorded(error=RuntimeError("secret")), json=TASK), 500, "an error of its own")
    assert "secret" not in str(body)


def test_health_says_when_no_new_requests_are_wanted():
    health = Health()
    assert ask(Recorded(), "GET", "/health", health).json() == {
        "status": "ok",
        "execution": "recorded",
        "backend": "echo",
    }
    health.draining = True
    answer = ask(Recorded(done()), "GET", "/health", health)
    assert (answer.status_code, answer.json()["status"]) == (503, "draining")
    assert ask(Recorded(done()), health=health, json=TASK).status_code == 200, "what comes all the same is answered"


def test_metrics_count_by_route():
    async def run():
        app = create_http(AgentSettings(), Recorded(done()), Health(), "echo")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://agent") as client:
            for _ in range(3):
                await client.post("/v1/tasks", json=TASK)
                await client.get(f"/v1/tasks/{uuid.uuid4()}")
            await client.post("/v1/tasks", content="{")
            await client.get("/nowhere")
            return (await client.get("/metrics")).text

    text = asyncio.run(run())
    assert 'sutazai_agent_requests_total{method="POST",route="/v1/tasks",status="200"} 3.0' in text
    assert 'sutazai_agent_requests_total{method="POST",route="/v1/tasks",status="400"} 1.0' in text
    assert 'sutazai_agent_requests_total{method="GET",route="/v1/tasks/{task_id}",status="200"} 3.0' in text
    assert 'sutazai_agent_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert 'sutazai_agent_request_seconds_count{method="POST",route="/v1/tasks"} 4.0' in text
    assert "sutazai_agent_requests_in_flight 1.0" in text, "the one that asks"


# Local execution ---------------------------------------------------------------------------------


class Failing:
    name = "failing"

    def generate(self, request):
        raise Refused("no such model")


def local(backend, concurrency=1, max_waiting=100):
    return LocalService(backend, concurrency, max_waiting)


def request(**changes):
    return TaskRequest(**{**TASK, **changes})


def test_tasks_are_done_one_at_a_time_and_in_order():
    async def run():
        service, loop = local(EchoBackend(0.05)), asyncio.get_running_loop()
        began, ends = loop.time(), []

        async def one(number):
            await service.submit(str(number), request(prompt=str(number)))
            answer = await service.wait(str(number), 10)
            ends.append((answer["output"], loop.time() - began))

        await asyncio.gather(*(one(number) for number in range(4)))
        await service.close()
        return ends

    ends = asyncio.run(run())
    assert [output for output, _ in ends] == ["0", "1", "2", "3"]
    assert all(seconds >= 0.05 * (number + 1) for number, (_, seconds) in enumerate(ends))


def test_too_many_tasks_are_refused():
    async def run():
        service = local(EchoBackend(0.2), max_waiting=1)
        app = create_http(AgentSettings(), service, Health(), "echo")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://agent") as client:
            answers = await asyncio.gather(*(client.post("/v1/tasks", json=TASK) for _ in range(3)))
            answers.append(await client.post("/v1/tasks", json=TASK))
        await service.close()
        return answers

    *first, refused, later = asyncio.run(run())
    assert [answer.status_code for answer in first] == [200, 200]
    wrong(refused, 503, "this agent has 2 tasks, as many as it takes")
    assert later.status_code == 200


def test_local_execution_keeps_no_task_that_nobody_waits_for():
    answer = ask(local(EchoBackend()), json=TASK, headers={"prefer": "respond-async"})
    wrong(answer, 501, "would lose one that nobody waits for")


def test_a_local_task_that_takes_too_long_or_fails_says_so():
    wrong(ask(local(EchoBackend(1.5)), json=TASK, headers={"prefer": "wait=1"}), 504, "no answer within 1 s")
    wrong(ask(local(Failing()), json=TASK), 502, "Refused: no such model")


def test_a_local_task_with_a_known_id_has_the_first_answer():
    async def run():
        service = local(EchoBackend())
        for prompt in ("first", "second"):
            await service.submit("id", request(prompt=prompt))
        answer = await service.wait("id", 5), await service.find("id"), await service.find("other")
        await service.close()
        return answer

    waited, found, other = asyncio.run(run())
    assert waited["output"] == found["output"] == "first"
    assert other is None
