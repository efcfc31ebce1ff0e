import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { clientHeaders, upstreamHeaders } from './headers.ts';

const options = {
  isOurCredential: (value: string) => value.startsWith('awx_') || value === 'our.jwt.token',
  priced: false,
};
const priced = { ...options, priced: true };

describe('upstreamHeaders', () => {
  it('keeps what is the client\u2019s and the seller\u2019s, in order, with spelling and duplicates', () => {
    const raw = [
      ['Accept', 'text/html'],
      ['accept-encoding', 'br, gzip'],
      ['ACCEPT', 'application/json'],
      ['Content-Type', 'application/json'],
      ['Authorization', 'Bearer of-the-seller'],
      ['X-API-Key', 'seller-key'],
      ['Idempotency-Key', '1'],
      ['User-Agent', 'curl'],
      ['X-Empty', ''],
      ['X-Latin', 'caf\u00e9\tau lait'],
    ].flat();
    expect(upstreamHeaders(raw, priced)).toEqual(raw);
  });

  it.each([
    'X-Payment',
    'X-Agent-ID',
    'X-Creator-Uid',
    'X-Skill-Name',
    'X-Task-Id',
    'PAYMENT-SIGNATURE',
    'PAYMENT-REQUIRED',
    'PAYMENT-RESPONSE',
    'X-PAYMENT-RESPONSE',
    'Connection',
    'Keep-Alive',
    'Proxy-Authenticate',
    'Proxy-Authorization',
    'Proxy-Connection',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'Host',
    'Content-Length',
    'Expect',
    'Forwarded',
    'X-Forwarded-For',
    'X-Forwarded-Anything',
    'X-Real-IP',
    'Signature',
    'Signature-Input',
    'Signature-Agent',
    'DPoP',
    'Cookie',
    'Credence-Environment',
    'X_Payment',
    'x_forwarded_for',
  ])('strips %s in any case', (name) => {
    for (const spelling of [name, name.toLowerCase(), name.toUpperCase()]) {
      expect(upstreamHeaders(['A', '1', spelling, 'v', 'B', '2'], options)).toEqual(['A', '1', 'B', '2']);
    }
  });

  it('strips what Connection names, from each Connection header', () => {
    const raw = [
      'Connection',
      'close, X-One',
      'X-One',
      '1',
      'x-two',
      '2',
      'connection',
      ' x-TWO ,',
      'X-Three',
      '3',
    ];
    expect(upstreamHeaders(raw, options)).toEqual(['X-Three', '3']);
  });

  it.each([
    ['Authorization', 'Bearer our.jwt.token'],
    ['Authorization', 'bearer  awx_live_1'],
    ['Authorization', 'DPoP our.jwt.token'],
    ['Authorization', `Basic ${Buffer.from('cid_1:awx_live_1').toString('base64')}`],
    ['X-API-Key', 'awx_test_1'],
    ['X-Any-Name', 'awx_test_1'],
  ])('strips our credential in %s: %s', (name, value) => {
    expect(upstreamHeaders([name, value, 'A', '1'], options)).toEqual(['A', '1']);
  });

  it.each(['Range', 'If-None-Match', 'If-Modified-Since', 'If-Range', 'If-Match', 'IF-UNMODIFIED-SINCE'])(
    'strips %s from priced calls only',
    (name) => {
      expect(upstreamHeaders([name, 'v'], priced)).toEqual([]);
      expect(upstreamHeaders([name, 'v'], options)).toEqual([name, 'v']);
    },
  );
});

describe('clientHeaders', () => {
  it('keeps the upstream\u2019s headers in order, with spelling and duplicates', () => {
    const raw = [
      ['Content-Type', 'text/plain'],
      ['Vary', 'a'],
      ['vary', 'b'],
      ['Content-Encoding', 'gzip'],
      ['ETag', '"1"'],
      ['Location', '/x'],
      ['X-Paymentless', 'kept'],
    ].flat();
    expect(clientHeaders(raw)).toEqual(raw);
  });

  it.each([
    'Set-Cookie',
    'Set-Cookie2',
    'PAYMENT-REQUIRED',
    'PAYMENT-RESPONSE',
    'Payment-Anything',
    'X-PAYMENT',
    'X-PAYMENT-RESPONSE',
    'Content-Length',
    'Connection',
    'Keep-Alive',
    'Proxy-Authenticate',
    'Transfer-Encoding',
    'Trailer',
    'Upgrade',
    'Alt-Svc',
    'Clear-Site-Data',
    'Strict-Transport-Security',
    // A hostile seller's orders to an operator's own proxy.
    'X-Accel-Redirect',
    'X-Accel-Expires',
    'X-Sendfile',
    'X-Lighttpd-Send-File',
    'Surrogate-Control',
    'CDN-Cache-Control',
    'Cloudflare-CDN-Cache-Control',
  ])('drops %s in any case', (name) => {
    for (const spelling of [name, name.toLowerCase()]) {
      expect(clientHeaders(['A', '1', spelling, 'v'])).toEqual(['A', '1']);
    }
  });

  it('drops what Connection names', () => {
    expect(clientHeaders(['Connection', 'X-Hop', 'X-Hop', '1', 'X-Stay', '2'])).toEqual(['X-Stay', '2']);
  });
});

describe('both directions', () => {
  it.each([
    ['X-A', 'b\r\nX-Evil: 1'],
    ['X-A', 'b\nc'],
    ['X-A', 'b\rc'],
    ['X-A', 'b\u0000'],
    ['X-A', 'b\u007f'],
    ['X-A', 'snow\u2603'],
    ['X-A\r\nX-Evil', '1'],
    ['X A', '1'],
    ['X:A', '1'],
    ['', '1'],
    ['Gr\u00fc\u00df', '1'],
  ])('leave out %j: %j', (name, value) => {
    expect(upstreamHeaders([name, value, 'B', '2'], options)).toEqual(['B', '2']);
    expect(clientHeaders([name, value, 'B', '2'])).toEqual(['B', '2']);
  });

  it('give only pairs of what came in, and only what HTTP allows', () => {
    const text = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.constantFrom('Connection', 'Cookie', 'X-A', '\r\n'),
    );
    fc.assert(
      fc.property(fc.array(text), (raw) => {
        for (const kept of [upstreamHeaders(raw, options), clientHeaders(raw)]) {
          expect(kept.length % 2).toBe(0);
          for (const part of kept) {
            expect(raw).toContain(part);
            expect(part).not.toMatch(/[\r\n\0]/);
          }
        }
      }),
    );
  });
});
