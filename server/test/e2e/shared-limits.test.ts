import { afterAll, beforeAll, expect, it } from 'vitest';
import { rateLimits } from '../../src/http/route.ts';
import { limits } from '../../src/kernel/limits.ts';
import { registerAgent } from '../helpers/agent.ts';
import { openTestDatabase } from '../helpers/database.ts';
import type { Instance } from '../helpers/instance.ts';
import { startPair } from '../helpers/pair.ts';
import { type Answer, send } from '../helpers/request.ts';

let pair: [Instance, Instance];
beforeAll(async () => {
  const { url } = await openTestDatabase();
  pair = await startPair(url);
}, 90_000);
afterAll(() => Promise.all((pair ?? []).map((one) => one.stop())), 60_000);

/** Sends so many to the two processes in turn, and gives the answers in the order of sending. */
async function sendMany(
  times: number,
  from: string,
  make: () => { path: string; form?: string; body?: object; headers?: Record<string, string> },
): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (let begun = 0; begun < times; begun += 20)
    answers.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(20, times - begun) }, (_, index) => {
          const { path, form, body = {}, headers } = make();
          const type = form === undefined ? 'application/json' : 'application/x-www-form-urlencoded';
          return send(`${pair[index % 2]?.info.api_url}${path}`, {
            method: 'POST',
            headers: { 'content-type': type, ...headers },
            body: form ?? JSON.stringify(body),
            from,
          });
        }),
      )),
    );
  return answers;
}
const count = (answers: readonly Answer[], status: number) =>
  answers.filter((answer) => answer.status === status).length;

const register = () => ({ path: '/register', body: { agent_name: 'a', client_info: 'c' } });
const askWrongly = () => ({ path: '/v1/agents', headers: { 'x-api-key': `awx_test_${'x'.repeat(50)}` } });

it('an address registers sixty agents a minute at both processes together, and is told when the next', async () => {
  const answers = await sendMany(140, '127.11.0.1', register);
  expect([count(answers, 201), count(answers, 429)]).toEqual([60, 80]);
  const refused = answers.at(-1);
  expect(Number(refused?.headers['retry-after'])).toBeGreaterThan(0);
  expect(refused?.headers['x-ratelimit-limit']).toBe('60');
  expect(refused?.json()).toMatchObject({ code: 'rate_limited' });
  expect(count(await sendMany(2, '127.11.0.2', register), 201)).toBe(2);
}, 60_000);

/** What two processes let through of a limit together: each may leave a tenth of it unwritten. */
const bounds = (max: number) => [max, max * (1 + 2 * limits.unwrittenShare)] as const;

it('an address refreshes three hundred times a minute at both together, and hardly more', async () => {
  const agent = await registerAgent(pair[0]);
  const refresh = () => ({ path: '/refresh', body: { agent_id: agent.agent_id, token: agent.token } });
  const answers = await sendMany(500, '127.11.0.3', refresh);
  const [least, most] = bounds(rateLimits.credential);
  expect(count(answers, 200)).toBeGreaterThanOrEqual(least);
  expect(count(answers, 200)).toBeLessThanOrEqual(most);
  expect(count(answers, 200) + count(answers, 429)).toBe(500);
}, 60_000);

it.each(['/oauth/token', '/oauth/refresh'])(
  'an agent that registered itself gets 120 tokens a minute at both together from %s, and hardly more',
  async (path) => {
    const agent = await registerAgent(pair[0]);
    const client = `client_id=${agent.agent_id}&client_secret=${agent.token}`;
    const grant = () => ({ path: '/oauth/token', form: `grant_type=client_credentials&${client}` });
    const first = (await sendMany(1, '127.11.0.4', grant))[0]?.json();
    const refresh = () => ({ path, form: `refresh_token=${first.refresh_token}` });
    const answers = await sendMany(200, '127.11.0.4', path === '/oauth/token' ? grant : refresh);
    const [least, most] = bounds(limits.homelessGrantsPerMinute);
    const given = count(answers, 200) + 1;
    expect(given).toBeGreaterThanOrEqual(least);
    expect(given).toBeLessThanOrEqual(most);
    expect(answers.at(-1)?.status).toBe(429);
  },
  60_000,
);

it('wrong API keys of an address are counted by both together', async () => {
  const answers = await sendMany(500, '127.11.0.5', askWrongly);
  const [least, most] = bounds(rateLimits.credential);
  expect(count(answers, 401)).toBeGreaterThanOrEqual(least);
  expect(count(answers, 401)).toBeLessThanOrEqual(most);
  expect(answers.at(-1)?.status).toBe(429);
}, 60_000);
