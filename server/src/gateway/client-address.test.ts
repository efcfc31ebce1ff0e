import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { createClientAddress } from './client-address.ts';

const from = (remoteAddress: string | undefined, headers: IncomingHttpHeaders = {}) => ({
  headers,
  socket: { remoteAddress } as Socket,
});
const said = (forwardedFor: string) => ({ 'x-forwarded-for': forwardedFor });

describe('where a caller is', () => {
  it.each([
    ['no proxy', from('198.51.100.7'), '198.51.100.7'],
    ['a trusted proxy', from('10.1.2.3', said('198.51.100.7')), '198.51.100.7'],
    ['an IPv4 proxy on an IPv6 socket', from('::ffff:10.1.2.3', said('2001:db8::7')), '2001:db8::7'],
    ['two trusted proxies', from('10.1.2.3', said('198.51.100.7, 10.9.9.9')), '198.51.100.7'],
    ['what the caller put before it', from('10.1.2.3', said('192.0.2.1, 198.51.100.7')), '198.51.100.7'],
    ['a trusted proxy that says something else', from('10.1.2.3', said('unknown')), ''],
    ['a trusted proxy that says it elsewhere', from('10.1.2.3', { forwarded: 'for=198.51.100.7' }), ''],
    ['a socket that is gone', from(undefined, said('198.51.100.7')), ''],
  ])('behind %s', (_, request, expected) => {
    expect(createClientAddress(['10.0.0.0/8'])(request)).toBe(expected);
  });

  it('behind a proxy that nobody trusts is that proxy with what it says, and not one of them alone', () => {
    const addressOf = createClientAddress(['10.0.0.0/8']);
    const requests = [
      from('203.0.113.1'),
      from('203.0.113.1', said('198.51.100.7')),
      from('203.0.113.1', said('198.51.100.8')),
      from('203.0.113.1', { ...said('198.51.100.7'), forwarded: 'for=198.51.100.7' }),
      from('203.0.113.2', said('198.51.100.7')),
      from('198.51.100.7'),
    ];
    expect(new Set(requests.map(addressOf)).size).toBe(requests.length);
    expect(addressOf(from('203.0.113.1', said('198.51.100.7')))).toBe('203.0.113.1 for 198.51.100.7');
    expect(addressOf(from('203.0.113.1', said('1.1.1.1, '.repeat(100))))).toBe('');
  });
});
