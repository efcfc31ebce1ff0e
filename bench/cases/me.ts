import { writeFile } from 'node:fs/promises';
import { askToken, createClient } from '../../server/test/helpers/oauth.ts';
import type { Case, Contender, Stage, TicketOffice } from '../bench.ts';
import { startCredence } from '../contenders/credence.ts';

/** Each of them may read 50 times a second: far more than its share, so that the limit isn't what is measured. */
const agents = 100;

export const me: Case = {
  name: 'me',
  title: 'An agent reads itself, 500 times a second',
  notes: [
    `GET /v1/agents/me with an access token (ES256) of one of ${agents} agents in turn; each token is verified, and looked for among those that were revoked, at each call.`,
    'There is no peer: the figure is the time that an answer takes at a given rate.',
  ],
  connections: 32,
  ratePerSecond: 500,
  threads: 1,
  rampSeconds: 1,
  windowSeconds: 10,
  drainSeconds: 2,
  warmUpSeconds: 5,
  start: startMe,
};

async function startMe(stage: Stage): Promise<Contender[]> {
  const environment = { ...stage.environment, CREDENCE_TOKEN_ALGORITHM: 'ES256' };
  const { instance } = await startCredence({ ...stage, environment });
  const tokens: string[] = [];
  while (tokens.length < agents) {
    const answer = await askToken(instance, await createClient(instance));
    tokens.push(answer.json().access_token);
  }
  return [
    {
      name: 'Credence',
      url: `${instance.info.api_url.replace('localhost', '127.0.0.1')}/v1/agents/me`,
      roots: { server: instance.process.pid ?? 0 },
      tickets: takeTurns(tokens),
    },
  ];
}

/** A line for each call, the tokens one after another. */
function takeTurns(tokens: readonly string[]): TicketOffice {
  return {
    header: 'authorization',
    async write(files, count) {
      const lines = Array.from(
        { length: Math.ceil(count / files.length) },
        (_, index) => `Bearer ${tokens[index % tokens.length]}\n`,
      ).join('');
      await Promise.all(files.map((file) => writeFile(file, lines)));
    },
  };
}
