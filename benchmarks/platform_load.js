// The load of benchmarks/platform.py, for k6: tasks at a constant rate whatever becomes of the earlier ones, half of them synchronous.
// A client's retry is part of it: whoever fails asks once more after half a second, with the same id. Ids are made from the run and the
// number of the request, so that afterwards every one can be asked for again (`MODE=check`).
import http from 'k6/http';
import { sleep } from 'k6';
import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';

const run = __ENV.RUN; // eight hexadecimal digits
const rate = Number(__ENV.RATE);
const seconds = Number(__ENV.SECONDS);
const total = Number(__ENV.TOTAL); // how many were sent
const checking = __ENV.MODE === 'check';
const address = `https://${__ENV.ADDRESS}/v1/tasks`;
const patience = Number(__ENV.TIMEOUT || 10);
const retryAfterSeconds = 0.5;

const attempted = { accept: new Counter('accept_attempted'), answer: new Counter('answer_attempted') };
const retried = { accept: new Counter('accept_retried'), answer: new Counter('answer_retried') };
const failed = { accept: new Counter('accept_failed'), answer: new Counter('answer_failed') };
const took = { accept: new Trend('accept_took', true), answer: new Trend('answer_took', true) };

export const options = {
  insecureSkipTLSVerify: false,
  summaryTrendStats: ['min', 'med', 'p(90)', 'p(99)', 'max', 'count'],
  discardResponseBodies: false,
  scenarios: checking
    ? { check: { executor: 'shared-iterations', vus: 8, iterations: total, maxDuration: '20m' } }
    : {
        load: {
          executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration: `${seconds}s`,
          preAllocatedVUs: rate * 12, maxVUs: rate * 24, gracefulStop: '60s',
        },
      },
};

const idOf = (number) => `${run}-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
const promptOf = (number) => `prompt ${run} ${number}`;

function submit(number, kind) {
  const body = { task_id: idOf(number), tenant_id: 42, agent_id: `agent-${number % 200}`, prompt: promptOf(number) };
  const headers = { 'Content-Type': 'application/json' };
  if (kind === 'accept') headers.Prefer = 'respond-async';
  return http.post(address, JSON.stringify(body), { headers, timeout: `${patience}s`, tags: { name: kind } });
}

// "" if it is what was asked for.
function wrong(response, number, kind) {
  if (kind === 'accept' && response.status === 202) return '';
  // Done before the client asked once more.
  if (response.status === 200 && response.json('output') === promptOf(number)) return '';
  return response.error || `status ${response.status}: ${String(response.body).slice(0, 120)}`;
}

export default function () {
  const number = exec.scenario.iterationInTest;
  if (checking) return check(number);
  const kind = number % 2 ? 'answer' : 'accept';
  attempted[kind].add(1);
  const began = Date.now();
  let response = submit(number, kind);
  let reason = wrong(response, number, kind);
  if (reason) {
    retried[kind].add(1);
    console.log(JSON.stringify({ what: 'retried', number, kind, at: began / 1000, reason }));
    sleep(retryAfterSeconds);
    response = submit(number, kind);
    reason = wrong(response, number, kind);
  }
  if (reason) {
    failed[kind].add(1);
    console.log(JSON.stringify({ what: 'failed', number, kind, at: began / 1000, reason }));
    return;
  }
  took[kind].add(Date.now() - began);
  if (response.status === 200) console.log(JSON.stringify({ what: 'answered', number, answered_at: response.json('answered_at') }));
}

function check(number) {
  let response = http.get(`${address}/${idOf(number)}`, { timeout: `${patience}s`, tags: { name: 'check' } });
  for (let again = 0; again < 5 && response.status !== 200; again++) {
    sleep(retryAfterSeconds);
    response = http.get(`${address}/${idOf(number)}`, { timeout: `${patience}s`, tags: { name: 'check' } });
  }
  const found = response.status === 200 ? response.json() : { status: `status ${response.status}` };
  const right = found.status !== 'done' || found.output === promptOf(number);
  console.log(JSON.stringify({ what: 'found', number, status: found.status, right, answered_at: found.answered_at }));
}
