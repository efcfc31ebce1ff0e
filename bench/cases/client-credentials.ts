import { fileURLToPath } from 'node:url';
import { createClient } from '../../server/test/helpers/oauth.ts';
import type { Case, Contender, Stage } from '../bench.ts';
import { startProgram } from '../contenders/child.ts';
import { startCredence } from '../contenders/credence.ts';

type Algorithm = 'ES256' | 'RS256';

function tokens(algorithm: Algorithm): Case {
  return {
    name: `tokens-${algorithm.toLowerCase()}`,
    title: `A token for client credentials, ${algorithm}`,
    notes: [
      `POST /oauth/token with client_secret_post, one client; each answer has an access token (JWT, ${algorithm}) of its own.`,
      'Credence answers when refresh token and audit event are committed to PostgreSQL (fsync on). `oidc-provider` keeps everything in memory, writes no event, and gives no refresh token.',
    ],
    connections: 64,
    threads: 1,
    rampSeconds: 0,
    windowSeconds: 10,
    drainSeconds: 0,
    warmUpSeconds: 5,
    start: (stage) => startTokens(stage, algorithm),
  };
}

export const tokensEs256: Case = tokens('ES256');
export const tokensRs256: Case = tokens('RS256');

async function startTokens(stage: Stage, algorithm: Algorithm): Promise<Contender[]> {
  const environment = { ...stage.environment, CREDENCE_TOKEN_ALGORITHM: algorithm };
  const credence = await startCredence({ ...stage, environment });
  const client = await createClient(credence.instance, { scopes: ['read', 'write'] });
  const provider = await startProgram({
    command: process.execPath,
    args: [fileURLToPath(new URL('../programs/oidc-provider.ts', import.meta.url))],
    env: { NODE_ENV: 'production', ALGORITHM: algorithm },
    listening: /^listening on (\S+)/,
  });
  stage.defer(provider.stop);
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  return [
    {
      name: 'Credence',
      // wrk takes the first address of a name; the server listens on both.
      url: `${credence.instance.info.api_url.replace('localhost', '127.0.0.1')}/oauth/token`,
      headers,
      body: bodyOf(client.clientId, client.secret),
      roots: { server: credence.instance.process.pid ?? 0 },
    },
    {
      name: 'oidc-provider',
      url: `${provider.address}/token`,
      headers,
      body: bodyOf('bench', 'bench-secret'),
      roots: { server: provider.pid },
    },
  ];
}

function bodyOf(id: string, secret: string): string {
  return `grant_type=client_credentials&client_id=${id}&client_secret=${secret}&scope=read+write`;
}
