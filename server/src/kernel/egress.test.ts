import { createServer } from 'node:http';
import { connect } from 'node:net';
import { once } from 'node:events';

import { Agent, request } from 'undici';
import { afterEach, describe, expect, it } from 'vitest';

import { createEgressGuard, EgressRefusedError, parseEgressAllow } from './egress.ts';
import { StartupError } from './startup-error.ts';

const strict = createEgressGuard({ allow: parseEgressAllow(undefined), allowLoopback: false });
const withLoopback = createEgressGuard({ allow: parseEgressAllow(''), allowLoopback: true });

const publicAddresses = [
  '8.8.8.8',
  '1.1.1.1',
  '9.255.255.255',
  '11.0.0.0',
  '100.63.255.255',
  '100.128.0.0',
  '172.15.255.255',
  '172.32.0.0',
  '192.0.1.0',
  '192.167.255.255',
  '192.169.0.0',
  '198.17.255.255',
  '198.20.0.0',
  '223.255.255.255',
  '2606:4700:4700::1111',
  '2001:4860:4860::8888',
  '2a00:1450:4001:80b::200e',
  '::ffff:8.8.8.8',
  '::8.8.8.8',
  '64:ff9b::808:808',
  '2002:808:808::1',
  // Teredo: server 65.54.227.120, client 192.0.2.45 in RFC 4380's example is documentation; this client is 8.8.8.8.
  '2001:0:4136:e378:8000:63bf:f7f7:f7f7',
];

const refusedAddresses = [
  '0.0.0.0',
  '0.1.2.3',
  '10.0.0.1',
  '100.64.0.1',
  '100.127.255.255',
  '127.0.0.1',
  '127.255.255.254',
  '169.254.1.1',
  '172.16.0.1',
  '172.31.255.255',
  '192.0.0.1',
  '192.0.2.1',
  '192.168.1.1',
  '198.18.0.1',
  '198.19.255.255',
  '198.51.100.7',
  '203.0.113.7',
  '224.0.0.1',
  '239.255.255.255',
  '240.0.0.1',
  '255.255.255.255',
  '168.63.129.16',
  '::',
  '::1',
  '0:0:0:0:0:0:0:1',
  'fc00::1',
  'fd12:3456::1',
  'fe80::1',
  'fe80::1%eth0',
  '2606:4700:4700::1111%eth0',
  'fec0::1',
  'ff02::1',
  '100::1',
  '2001:db8::1',
  '2001:2::1',
  '3fff::1',
  '5f00::1',
  '64:ff9b:1::1',
  '::ffff:10.0.0.1',
  '::ffff:7f00:1',
  '0:0:0:0:0:FFFF:127.0.0.1',
  '::10.0.0.1',
  '::ffff:0:10.0.0.1',
  '64:ff9b::10.0.0.1',
  '64:ff9b::7f00:1',
  '2002:a00:1::1',
  '2002:7f00:1::',
  '2001:0:4136:e378:8000:63bf:f5ff:fffe',
  '2001:0:a00:1:8000:63bf:f7f7:f7f7',
  '',
  'localhost',
  '127.1',
  '2130706433',
  '8.8.8.8 ',
  '[::1]',
];

const neverDialled = [
  '169.254.169.254',
  '169.254.170.2',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  'fd00:ec2::254',
  'fd20:ce::254',
  'fe80::a9fe:a9fe',
  '::ffff:169.254.169.254',
  '64:ff9b::169.254.169.254',
  '2002:a9fe:a9fe::1',
  '0.0.0.0',
  '::',
  '224.0.0.1',
  'ff02::1',
  '255.255.255.255',
];

describe('mayDial', () => {
  it.each(publicAddresses)('allows the public address %s', (ip) => {
    expect(strict.mayDial('upstream', ip)).toBe(true);
  });

  it.each(refusedAddresses)('refuses %j', (ip) => {
    expect(strict.mayDial('upstream', ip)).toBe(false);
  });

  it.each(neverDialled)('refuses %s even if every range is allowed', (ip) => {
    const open = createEgressGuard({
      allow: parseEgressAllow('upstream=0.0.0.0/0,2000::/3,fd00::/8,8000::/1'),
      allowLoopback: true,
    });
    expect(open.mayDial('upstream', ip)).toBe(false);
    expect(open.mayDial('upstream', '10.0.0.1')).toBe(true);
  });

  it.each(['127.0.0.1', '127.8.8.8', '::1', '::ffff:127.0.0.1'])(
    'allows loopback %s only when told to',
    (ip) => {
      expect(withLoopback.mayDial('webhook', ip)).toBe(true);
      expect(strict.mayDial('webhook', ip)).toBe(false);
    },
  );

  it('keeps private addresses refused when loopback is allowed', () => {
    expect(withLoopback.mayDial('upstream', '10.0.0.1')).toBe(false);
  });

  it('allows a range for the purpose it was given for, and no other', () => {
    const guard = createEgressGuard({
      allow: parseEgressAllow('upstream=10.0.0.0/8;webhook=192.168.0.0/16,fd00::/8'),
      allowLoopback: false,
    });
    expect(guard.mayDial('upstream', '10.1.2.3')).toBe(true);
    expect(guard.mayDial('upstream', '::ffff:10.1.2.3')).toBe(true);
    expect(guard.mayDial('upstream', '11.1.2.3')).toBe(true);
    expect(guard.mayDial('webhook', '10.1.2.3')).toBe(false);
    expect(guard.mayDial('upstream', '192.168.0.1')).toBe(false);
    expect(guard.mayDial('webhook', '192.168.0.1')).toBe(true);
    expect(guard.mayDial('webhook', 'fd01::1')).toBe(true);
    expect(guard.mayDial('oidc', 'fd01::1')).toBe(false);
  });
});

describe('parseEgressAllow', () => {
  it('reads nothing as nothing', () => {
    expect(parseEgressAllow(undefined)).toEqual({ upstream: [], webhook: [], metadata: [], oidc: [] });
    expect(parseEgressAllow(' ; ')).toEqual({ upstream: [], webhook: [], metadata: [], oidc: [] });
  });

  it('reads purposes, ranges and single addresses', () => {
    expect(parseEgressAllow(' upstream = 10.0.0.0/8 , 192.168.7.7 ;oidc=fd00::/8')).toEqual({
      upstream: [
        { address: '10.0.0.0', prefixBits: 8, family: 'ipv4' },
        { address: '192.168.7.7', prefixBits: 32, family: 'ipv4' },
      ],
      webhook: [],
      metadata: [],
      oidc: [{ address: 'fd00::', prefixBits: 8, family: 'ipv6' }],
    });
  });

  it.each([
    ['10.0.0.0/8', '10.0.0.0/8'],
    ['upsteam=10.0.0.0/8', 'upsteam=10.0.0.0/8'],
    ['upstream', 'upstream'],
    ['upstream=', ''],
    ['upstream=10.0.0.0/8=x', 'upstream=10.0.0.0/8=x'],
    ['upstream=10.0.0.0/33', '10.0.0.0/33'],
    ['upstream=fd00::/129', 'fd00::/129'],
    ['upstream=10.0.0/8', '10.0.0/8'],
    ['upstream=10.0.0.0/8/8', '10.0.0.0/8/8'],
    ['upstream=10.0.0.0/', '10.0.0.0/'],
    ['upstream=localhost', 'localhost'],
    ['upstream=10.0.0.0/8,nonsense\nmore', 'nonsense more'],
    ['metadata=169.254.169.254', '169.254.169.254'],
    ['upstream=fe80::/64', 'fe80::/64'],
    ['upstream=::ffff:10.0.0.0/104', '::ffff:10.0.0.0/104'],
  ])('refuses %j with one line that names %j', (text, named) => {
    const read = () => parseEgressAllow(text);
    expect(read).toThrow(StartupError);
    expect(read).toThrow(`"${named}"`);
    expect(read).toThrow(/^CREDENCE_EGRESS_ALLOW: .*$/);
  });
});

describe('dialling', () => {
  const cleanups: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0)) await cleanup();
  });

  async function listen(): Promise<{ port: number; connections: () => number }> {
    let connections = 0;
    const server = createServer((_request, response) => response.end('reached'));
    server.on('connection', () => (connections += 1));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => new Promise((done) => server.close(done)));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    return { port: address.port, connections: () => connections };
  }

  function agent(guard: typeof strict): Agent {
    const dispatcher = new Agent({ connect: guard.guardedConnect('upstream') });
    cleanups.push(() => dispatcher.close());
    return dispatcher;
  }

  it.each([
    '127.0.0.1',
    'localhost',
    '[::1]',
    '127.1',
    '0x7f000001',
    '[::ffff:127.0.0.1]',
    '10.0.0.1',
    '0.0.0.0',
  ])('refuses http://%s before a connection is made', async (host) => {
    const { port, connections } = await listen();
    const call = request(`http://${host}:${port}/`, { dispatcher: agent(strict) });
    await expect(call).rejects.toBeInstanceOf(EgressRefusedError);
    await expect(call).rejects.toMatchObject({
      code: 'EGRESS_REFUSED',
      host: expect.any(String),
      address: expect.any(String),
    });
    expect(connections()).toBe(0);
  });

  it.each(['127.0.0.1', 'localhost'])('reaches http://%s when loopback is allowed', async (host) => {
    const { port } = await listen();
    const answer = await request(`http://${host}:${port}/`, { dispatcher: agent(withLoopback) });
    expect(await answer.body.text()).toBe('reached');
  });

  it('checks the address that a name has when it is dialled, and leaves out the refused ones', async () => {
    const { port, connections } = await listen();
    const records = [
      [
        { address: '10.0.0.1', family: 4 },
        { address: '127.0.0.1', family: 4 },
      ],
      [
        { address: '10.0.0.1', family: 4 },
        { address: '::ffff:10.0.0.1', family: 6 },
      ],
    ];
    const guard = createEgressGuard({
      allow: parseEgressAllow(''),
      allowLoopback: true,
      resolve: (_name, _options, callback) => callback(null, records.shift() ?? []),
    });
    // One connection each, so that the second request resolves the name anew.
    const first = await request(`http://rebinding.example:${port}/`, { dispatcher: agent(guard) });
    expect(await first.body.text()).toBe('reached');
    await expect(
      request(`http://rebinding.example:${port}/`, { dispatcher: agent(guard) }),
    ).rejects.toMatchObject({
      host: 'rebinding.example',
      address: '10.0.0.1',
    });
    expect(connections()).toBe(1);
  });

  it('guards node sockets through their lookup option', async () => {
    const { port } = await listen();
    const refused = connect({ host: 'localhost', port, lookup: strict.guardedLookup('webhook') });
    const [error] = await once(refused, 'error').catch((reason: unknown) => [reason]);
    expect(error).toBeInstanceOf(EgressRefusedError);
    const allowed = connect({
      host: 'localhost',
      port,
      family: 4,
      autoSelectFamily: false,
      lookup: withLoopback.guardedLookup('webhook'),
    });
    await once(allowed, 'connect');
    allowed.destroy();
  });

  it('hands on the error of a name that does not resolve', async () => {
    const guard = createEgressGuard({
      allow: parseEgressAllow(''),
      allowLoopback: true,
      resolve: (_name, _options, callback) =>
        callback(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' }), []),
    });
    await expect(request('http://nowhere.example/', { dispatcher: agent(guard) })).rejects.toMatchObject({
      code: 'ENOTFOUND',
    });
  });
});
