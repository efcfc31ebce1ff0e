import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request, type ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { createApiKey, createOrganisation, type Environment } from '../../src/accounts/index.ts';
import type { Database } from '../../src/db/index.ts';
import { apiScopes } from '../../src/http/index.ts';
import { approveLink } from '../../src/identity/links/answer-link-request.ts';
import { openTestDatabase, testContext } from './database.ts';
import { findFreePort, mainFile, startInstance } from './instance.ts';
import type { Answer } from './request.ts';
import { runCurl, sendRequest } from './curl.ts';

/** A running instance, as whoever follows a seed has it before them. */
export interface World {
  apiUrl: string;
  /** Sends what a curl command says, as it is. */
  curl(command: string): Promise<Answer>;
  /** As `curl`, with what shows in this mode that it's the owner: nothing in development, an API key in production. */
  curlAsOwner(command: string): Promise<Answer>;
  /** A person opens an `authorizationUrl` and types the agent's code. */
  link(authorizationUrl: string, userCode: string): Promise<void>;
  stop(): Promise<unknown>;
}

/** Development mode, where this machine's requests without a credential act as the owner. */
export async function openDevelopmentWorld(): Promise<World> {
  const instance = await startInstance();
  const apiUrl = instance.info.api_url;
  return {
    apiUrl,
    curl: (command) => runCurl(command),
    curlAsOwner: (command) => runCurl(command),
    async link(authorizationUrl, userCode) {
      const id = authorizationUrl.split('/').at(-1) ?? '';
      const approved = await runCurl(`curl -X POST ${apiUrl}/v1/agent-links/${id}/approve \
        -H "Content-Type: application/json" -d '{"user_code": "${userCode}"}'`);
      if (approved.status !== 200) throw new Error(`not linked: ${approved.text}`);
    },
    stop: () => instance.stop(),
  };
}

/** A production instance, with its database at hand. */
export interface ProductionWorld extends World {
  db: Database;
  environment: Environment;
  apiKey: string;
  /** Calls the API with JSON, with this credential or none. */
  call(path: string, sending?: Sending): Promise<Answer>;
}

interface Sending {
  method?: string;
  body?: unknown;
  credential?: string;
  headers?: Record<string, string>;
  /** The loopback address to call from. */
  from?: string;
}

/** Production mode, over a database of its own and behind TLS; the API key is one of its first organisation. */
export async function openProductionWorld(): Promise<ProductionWorld> {
  const folder = new URL('tls/', import.meta.url);
  const cert = await readFile(new URL('localhost.cert.pem', folder), 'utf8');
  const key = await readFile(new URL('localhost.key.pem', folder), 'utf8');
  const { url: databaseUrl, db } = await openTestDatabase();
  const port = await findFreePort();
  const proxy = createServer({ key, cert }, (incoming, outgoing) => forward(incoming, outgoing, port));
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const address = proxy.address();
  const apiUrl = `https://localhost:${typeof address === 'object' && address ? address.port : 0}`;
  const program = await startProgram({
    CREDENCE_MODE: 'production',
    CREDENCE_MASTER_KEY: '07'.repeat(32),
    CREDENCE_PUBLIC_URL: apiUrl,
    CREDENCE_GATEWAY_URL: 'https://gateway.example',
    CREDENCE_TRUSTED_PROXIES: '127.0.0.1',
    DATABASE_URL: databaseUrl,
    PORT: String(port),
    GATEWAY_PORT: String(await findFreePort()),
  });
  const { environment, apiKey } = await makeOwner(db);
  return {
    apiUrl,
    db,
    environment,
    apiKey,
    call: (path, { method, body, credential, headers, from } = {}) =>
      sendRequest(
        {
          url: `${apiUrl}${path}`,
          method: method ?? (body === undefined ? 'GET' : 'POST'),
          headers: {
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
            ...(credential === undefined ? {} : { authorization: `Bearer ${credential}` }),
            ...headers,
          },
          body: body === undefined ? undefined : JSON.stringify(body),
        },
        { ca: cert, ...(from === undefined ? {} : { localAddress: from }) },
      ),
    curl: (command) => runCurl(command, { ca: cert }),
    curlAsOwner: (command) => runCurl(command, { ca: cert, headers: { 'x-api-key': apiKey } }),
    // Nobody can sign in yet, and no API key may link an agent.
    async link(authorizationUrl, userCode) {
      const context = testContext(db, { scope: environment.id });
      const id = authorizationUrl.split('/').at(-1) ?? '';
      await approveLink(context, id, { environmentId: environment.id, userCode });
    },
    async stop() {
      proxy.close();
      await program.stop();
    },
  };
}

/** An organisation with its sandbox, and an API key of that. */
export async function makeOwner(
  db: Database,
  scopes: readonly string[] = apiScopes,
): Promise<{ environment: Environment; apiKey: string }> {
  const environment = await createOrganisation(testContext(db), 'Seeds');
  const context = testContext(db, { scope: environment.id });
  const { key } = await createApiKey(context, { environment, name: 'Seeds', scopes });
  return { environment, apiKey: key };
}

/** What a TLS-terminating proxy does. */
function forward(incoming: IncomingMessage, outgoing: ServerResponse, port: number): void {
  const headers = { ...incoming.headers, 'x-forwarded-for': incoming.socket.remoteAddress ?? '' };
  const { method, url } = incoming;
  const onward = request({ host: '127.0.0.1', port, method, path: url, headers }, (response) => {
    outgoing.writeHead(response.statusCode ?? 502, response.headers);
    response.pipe(outgoing);
  });
  onward.on('error', () => outgoing.writeHead(502).end());
  incoming.pipe(onward);
}

async function startProgram(settings: Record<string, string>): Promise<{ stop(): Promise<void> }> {
  const { PATH = '' } = process.env;
  const child = spawn(process.execPath, [mainFile], {
    env: { PATH, ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let printed = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  const isReady = () =>
    fetch(`http://127.0.0.1:${settings['PORT']}/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  while (!(await isReady())) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`the program ended:\n${printed}`);
    await sleep(50);
  }
  return {
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}
