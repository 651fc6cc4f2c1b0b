// The load of benchmarks/agents.py, for k6: so many clients, each asking again as soon as it has an answer.
import http from 'k6/http';
import { Counter } from 'k6/metrics';

const answered = new Counter('answered');
const failed = new Counter('not_answered');
const body = JSON.stringify({ tenant_id: 42, agent_id: 'agent-1', prompt: 'Why?' });
const options_ = { headers: { 'Content-Type': 'application/json' }, timeout: '30s' };

// What isn't answered in the time isn't counted.
export const options = {
  scenarios: {
    load: { executor: 'constant-vus', vus: Number(__ENV.CLIENTS), duration: `${__ENV.SECONDS}s`, gracefulStop: '0s' },
  },
};

export default function () {
  const response = http.post(__ENV.ADDRESS, body, options_);
  (response.status === 200 ? answered : failed).add(1);
}
