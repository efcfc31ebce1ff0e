import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDatabase } from '../../src/db/index.ts';
import { findRunningDatabase } from '../../src/embedded/index.ts';
import { type Agent, registerAgent } from '../helpers/agent.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { addKey, askToken, createClient, newKey, signProof } from '../helpers/oauth.ts';
import { send } from '../helpers/request.ts';
import { callApi } from '../helpers/seller.ts';

interface Issued {
  vc: string;
  jti: string;
  issued_at: string;
  expires_at: string;
  kid: string;
}

const audience = 'https://shop.example';
const challenge = 'a challenge of 🦊 and "quotes"';
let instance: Instance;
let agent: Agent;
beforeAll(async () => {
  instance = await startInstance();
  agent = await registerAgent(instance);
});
afterAll(() => instance?.stop());

const ask = (body: object, credential: string | undefined = agent.jwt) =>
  callApi(instance, '/agent/vc/issue', { body, ...(credential === undefined ? {} : { credential }) });
const issue = async (body: object = { challenge, audience }) => (await ask(body)).json() as Issued;
const verify = async (body: object) => (await callApi(instance, '/verify-vc', { body })).json() as object;

const timeOf = (seconds: number) => new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
const lifeOf = async (body: object) => {
  const { issued_at, expires_at } = await issue(body);
  return (Date.parse(expires_at) - Date.parse(issued_at)) / 1000;
};

describe('POST /agent/vc/issue', () => {
  it("gives a credential of the W3C's form for this verifier and this challenge, and no e-mail", async () => {
    const answer = await ask({ challenge, audience, ttl_seconds: 600 });
    expect(answer.status).toBe(200);
    const { vc, jti, issued_at, expires_at, kid } = answer.json() as Issued;
    expect(decodeProtectedHeader(vc)).toEqual({ alg: 'RS256', kid, typ: 'vc+jwt', cty: 'vc' });
    const issuer = instance.info.api_url;
    const { payload } = await jwtVerify(vc, createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`)), {
      issuer,
      audience,
      typ: 'vc+jwt',
      algorithms: ['RS256'],
    });
    const { iat = 0, exp = 0 } = payload;
    expect(exp - iat).toBe(600);
    expect([iat, exp]).toEqual([issued_at, expires_at].map((time) => Date.parse(time) / 1000));
    expect(payload).toEqual({
      '@context': ['https://www.w3.org/ns/credentials/v2'],
      type: ['VerifiableCredential'],
      issuer,
      credentialSubject: { id: `urn:uuid:${agent.agent_id}` },
      validFrom: timeOf(iat),
      validUntil: timeOf(exp),
      iss: issuer,
      sub: agent.agent_id,
      aud: audience,
      challenge,
      nonce: challenge,
      iat,
      exp,
      jti,
    });
  });

  it('lasts five minutes unless it is told, up to a day', async () => {
    expect(await lifeOf({ challenge, audience })).toBe(300);
    expect(await lifeOf({ challenge, audience, ttl_seconds: 1 })).toBe(1);
    expect(await lifeOf({ challenge, audience, ttl_seconds: 86_400 })).toBe(86_400);
  });

  it.each<[string, object]>([
    ['no challenge', { audience }],
    ['an empty challenge', { challenge: '', audience }],
    ['a challenge of 4097 bytes', { challenge: 'a'.repeat(4097), audience }],
    ['a challenge of 4098 bytes in 1366 characters', { challenge: '€'.repeat(1366), audience }],
    ['no audience', { challenge }],
    ['an empty audience', { challenge, audience: '' }],
    ['a list of audiences', { challenge, audience: [audience] }],
    ['a life of no time', { challenge, audience, ttl_seconds: 0 }],
    ['a life of more than a day', { challenge, audience, ttl_seconds: 86_401 }],
    ['a life of a part of a second', { challenge, audience, ttl_seconds: 1.5 }],
    ['an unknown field', { challenge, audience, email: 'a@example.com' }],
  ])('refuses %s', async (_what, body) => {
    const answer = await ask(body);
    expect([answer.status, answer.json().code]).toEqual([400, 'invalid_request']);
  });

  it('takes a challenge of 4096 bytes', async () => {
    const long = '€'.repeat(1365) + 'a';
    const { vc } = await issue({ challenge: long, audience });
    expect(await verify({ vc, challenge: long, audience })).toMatchObject({ valid: true });
  });

  it('is for agents: a credential, an API key, and a request without any are refused', async () => {
    const { vc } = await issue();
    const body = { challenge, audience };
    expect((await ask(body, vc)).status).toBe(401);
    expect((await ask(body, instance.info.api_key)).status).toBe(403);
    expect((await callApi(instance, '/agent/vc/issue', { body })).status).toBe(403);
  });

  it('keeps the hash of the challenge, and never the challenge', async () => {
    const secret = 'a-challenge-that-nobody-else-has-sent';
    const { jti, kid, expires_at } = await issue({ challenge: secret, audience });
    const url = (await findRunningDatabase(instance.dataDirectory)) ?? '';
    const db = openDatabase(url, { poolSize: 1, onError: () => undefined });
    try {
      const rows = await db.query<{ resource: string; data: object; all: string }>(
        "SELECT resource, data, audit_events::text AS all FROM audit_events WHERE data->>'jti' = $1",
        [jti],
      );
      expect(rows).toMatchObject([
        {
          resource: agent.agent_id,
          data: { jti, kid, audience, challenge_sha256: hash('sha256', secret), expires_at },
        },
      ]);
      expect(rows[0]?.all).not.toContain(secret);
    } finally {
      await db.close();
    }
  });

  it('names a key of the agent that has one: the one that was proved, else the latest', async () => {
    const [client, early, late] = [await createClient(instance), await newKey(), await newKey()];
    const { access_token } = (await askToken(instance, client)).json();
    const confirmationOf = async () =>
      decodeJwt((await ask({ challenge, audience }, access_token)).json().vc)['cnf'];
    expect(await confirmationOf()).toBeUndefined();
    for (const key of [early, late]) {
      await addKey(instance, client, key);
      expect(await confirmationOf()).toEqual({ jkt: key.thumbprint });
    }
    const url = (path: string) => `${instance.info.api_url}${path}`;
    const dpop = await signProof(early, { method: 'POST', url: url('/oauth/token') });
    const bound = (await askToken(instance, client, {}, { dpop })).json().access_token as string;
    const path = '/agent/vc/issue';
    const proof = await signProof(early, { method: 'POST', url: url(path), accessToken: bound });
    const issued = await send(url(path), {
      method: 'POST',
      headers: { authorization: `DPoP ${bound}`, dpop: proof, 'content-type': 'application/json' },
      body: JSON.stringify({ challenge, audience }),
    });
    expect(decodeJwt(issued.json().vc)['cnf']).toEqual({ jkt: early.thumbprint });
  });

  it('answers under the prefixes of the API as well', async () => {
    for (const path of ['/v1/agent/vc/issue', '/api/agent/vc/issue', '/api/v1/agent/vc/issue']) {
      const body = { challenge, audience };
      expect((await callApi(instance, path, { body, credential: agent.jwt })).status).toBe(200);
    }
  });
});

describe('POST /verify-vc', () => {
  it('gives the claims of a good credential', async () => {
    const { vc } = await issue();
    expect(await verify({ vc, audience, challenge })).toEqual({ valid: true, payload: decodeJwt(vc) });
  });

  it.each([['vc'], ['audience'], ['challenge']])('demands %s', async (name) => {
    const { vc } = await issue();
    const body = { vc, audience, challenge, [name]: undefined };
    expect((await callApi(instance, '/verify-vc', { body })).status).toBe(400);
  });

  it('refuses an access token, another audience, another challenge, another text, and says why', async () => {
    const { vc } = await issue();
    const own = instance.info.api_url;
    const refusals: [object, string][] = [
      [{ vc: agent.jwt, audience: own, challenge }, 'wrong_type'],
      [{ vc, audience: 'https://other.example', challenge }, 'wrong_audience'],
      [{ vc, audience: `${audience}/`, challenge }, 'wrong_audience'],
      [{ vc, audience, challenge: `${challenge} ` }, 'wrong_challenge'],
      [{ vc: `${vc}.`, audience, challenge }, 'malformed'],
      [{ vc: vc.replace(/[^.]*$/, 'AAAA'), audience, challenge }, 'bad_signature'],
      [{ vc: 'nothing', audience, challenge }, 'malformed'],
    ];
    for (const [body, error] of refusals) expect(await verify(body)).toEqual({ valid: false, error });
  });

  it('refuses one of an agent that is stopped, and of one that was: as its tokens, it stays dead', async () => {
    const client = await createClient(instance);
    const { access_token } = (await askToken(instance, client)).json();
    const { vc } = (await ask({ challenge, audience }, access_token)).json();
    const asOwner = (action: string) =>
      callApi(instance, `/v1/agents/${client.agentId}/${action}`, {
        body: {},
        credential: instance.info.api_key,
      });
    expect(await verify({ vc, challenge, audience })).toMatchObject({ valid: true });
    await asOwner('stop');
    const refused = { valid: false, error: 'agent_inactive' };
    expect(await verify({ vc, challenge, audience })).toEqual(refused);
    await asOwner('reactivate');
    expect(await verify({ vc, challenge, audience })).toEqual(refused);
    const again = (await askToken(instance, client)).json().access_token;
    const next = (await ask({ challenge, audience }, again)).json();
    expect(await verify({ vc: next.vc, challenge, audience })).toMatchObject({ valid: true });
  });

  it('refuses one that has expired', async () => {
    const { vc } = await issue({ challenge, audience, ttl_seconds: 1 });
    const body = { vc, audience, challenge };
    let answer = await verify(body);
    while ('payload' in answer) {
      await sleep(100);
      answer = await verify(body);
    }
    expect(answer).toEqual({ valid: false, error: 'expired' });
  });
});
