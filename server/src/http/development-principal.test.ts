import { describe, expect, it } from 'vitest';
import { type DevelopmentRequest, findDevelopmentRefusal } from './development-principal.ts';

type Headers = DevelopmentRequest['headers'];

const get = request('GET', '/v1/agents');
const post = request('POST', '/v1/agents', { 'content-type': 'application/json', 'content-length': '2' });

function request(method: string, path: string, headers: Headers = {}): DevelopmentRequest {
  return {
    method,
    path,
    headers: { host: 'localhost:8080', ...headers },
    remoteAddress: '127.0.0.1',
    port: 8080,
  };
}

function refusal(parts: Partial<DevelopmentRequest>, from = get): string | undefined {
  return findDevelopmentRefusal({ ...from, ...parts, headers: { ...from.headers, ...parts.headers } });
}

// The rules of the development principal, one by one (SECURITY.md, "Development mode").
describe('the development principal', () => {
  it.each(['127.0.0.1', '127.8.9.10', '::1', '::ffff:127.0.0.1'])(
    'answers this machine, %s',
    (remoteAddress) => {
      expect(refusal({ remoteAddress })).toBeUndefined();
    },
  );

  it.each([
    '10.0.0.1',
    '192.168.1.5',
    '::ffff:10.0.0.1',
    '::',
    '0.0.0.0',
    'fe80::1',
    '128.0.0.1',
    '127.evil',
    '',
  ])('does not answer another machine, %j', (remoteAddress) => {
    expect(refusal({ remoteAddress })).toContain('this machine');
  });

  it('does not answer where a cookie was sent', () => {
    expect(refusal({ headers: { cookie: '' } })).toContain('cookie');
    expect(refusal({ headers: { cookie: 'a=b' } })).toContain('cookie');
  });

  it.each(
    [
      'forwarded',
      'via',
      'x-forwarded',
      'x-forwarded-for',
      'x-forwarded-host',
      'x-forwarded-proto',
      'x-real-ip',
      'x-client-ip',
      'cf-connecting-ip',
      'true-client-ip',
    ].map((name) => [name]),
  )('does not answer behind a proxy that sends %s', (name) => {
    expect(refusal({ headers: { [name]: 'x' } })).toContain(`forwarded (${name})`);
  });

  it.each(['localhost:8080', '127.0.0.1:8080', '[::1]:8080'])('answers at %s', (host) => {
    expect(refusal({ headers: { host } })).toBeUndefined();
  });

  // A name of the attacker's that resolves to this machine: DNS rebinding.
  it.each(
    [
      'evil.example:8080',
      'localhost',
      'localhost:80',
      'localhost:8402',
      'localhost.evil.example:8080',
      '',
      'LOCALHOST:8080',
      '127.0.0.2:8080',
      '::1:8080',
      'user@localhost:8080',
      undefined,
    ].map((host) => [host]),
  )('does not answer as %j', (host) => {
    expect(refusal({ headers: { host } })).toContain('Host');
  });

  it.each(['http://localhost:8080', 'http://127.0.0.1:8080', 'http://[::1]:8080'])(
    'answers a page of ours, %s',
    (origin) => {
      expect(refusal({ headers: { origin } }, post)).toBeUndefined();
    },
  );

  it.each([
    'https://evil.example',
    'http://localhost:3000',
    'https://localhost:8080',
    'http://localhost',
    'null',
    '',
  ])('does not answer a page of another origin, %j', (origin) => {
    expect(refusal({ headers: { origin } })).toContain('Origin');
    expect(refusal({ headers: { origin } }, post)).toContain('Origin');
  });

  it.each([
    ['same-origin', true],
    ['none', true],
    ['same-site', false],
    ['cross-site', false],
    ['', false],
  ])('Sec-Fetch-Site %j is answered: %s', (site, answered) => {
    expect(refusal({ headers: { 'sec-fetch-site': site } }) === undefined).toBe(answered);
  });

  it.each([
    ['application/json', true],
    ['application/json; charset=utf-8', true],
    ['Application/JSON', true],
    ['text/plain', false],
    ['application/x-www-form-urlencoded', false],
    ['multipart/form-data; boundary=x', false],
    ['application/json-patch', false],
    ['text/plain; application/json', false],
    [undefined, false],
  ])('a write with a body of %j is answered: %s', (type, answered) => {
    expect(refusal({ headers: { 'content-type': type } }, post) === undefined).toBe(answered);
    const chunked = { 'content-type': type, 'content-length': undefined, 'transfer-encoding': 'chunked' };
    expect(refusal({ headers: chunked }, post) === undefined).toBe(answered);
  });

  it.each([{}, { 'content-length': '0' }])('a write without a body, %j, is answered', (headers) => {
    expect(findDevelopmentRefusal(request('POST', '/v1/agents', headers))).toBeUndefined();
    expect(findDevelopmentRefusal(request('DELETE', '/v1/agents/:id', headers))).toBeUndefined();
  });

  it.each([
    ['GET', '/oauth/authorize', 'OAuth'],
    ['POST', '/oauth/token', 'OAuth'],
    ['POST', '/v1/payments/x402', 'payments'],
    ['POST', '/v1/payments', 'payments'],
    ['DELETE', '/v1/payments/:id', 'payments'],
    ['POST', '/v1/payouts', 'payments'],
    ['POST', '/v1/payment-links', 'payments'],
    ['PATCH', '/v1/payment-links/:id', 'payments'],
    ['POST', '/v1/payment-intents/:id/authorise', 'payments'],
    ['POST', '/v1/payment-intents/:id/capture', 'payments'],
  ])('%s %s is not its to do', (method, path, reason) => {
    expect(findDevelopmentRefusal(request(method, path))).toContain(reason);
  });

  it.each([
    ['GET', '/v1/payments/x402'],
    ['GET', '/v1/payouts'],
    ['POST', '/v1/payment-intents'],
    ['POST', '/v1/payment-intents/:id/cancel'],
    ['POST', '/v1/mandates/:mandateId/sign'],
    ['POST', '/v1/orgs'],
    ['POST', '/v1/api-keys'],
    ['GET', '/oauth-like'],
  ])('%s %s is', (method, path) => {
    expect(findDevelopmentRefusal(request(method, path))).toBeUndefined();
  });
});
