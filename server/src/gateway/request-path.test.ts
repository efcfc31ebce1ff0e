import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { limits } from '../kernel/limits.ts';
import { parseRequestTarget } from './request-path.ts';

const requestTargetBytesMax = limits.gatewayRequestTargetBytes;

describe('parseRequestTarget', () => {
  it.each([
    ['/api/weather', 'weather', '', ''],
    ['/api/weather/', 'weather', '', ''],
    ['/api/weather?x=1', 'weather', '', 'x=1'],
    ['/api/weather/?', 'weather', '', ''],
    ['/api/weather/forecast', 'weather', '/forecast', ''],
    ['/api/weather/forecast/', 'weather', '/forecast/', ''],
    ['/api/weather/users/123/profile?a=1&a=2', 'weather', '/users/123/profile', 'a=1&a=2'],
    ['/api/weather/caf%C3%A9/%7Eme', 'weather', '/caf%C3%A9/%7Eme', ''],
    ['/api/weather/a%20b', 'weather', '/a%20b', ''],
    ['/api/weather/v1/users:batchGet', 'weather', '/v1/users:batchGet', ''],
    ['/api/weather/a..b/...', 'weather', '/a..b/...', ''],
    ['/api/weather/.hidden/a;v=1', 'weather', '/.hidden/a;v=1', ''],
    [
      '/api/weather/a?q=%zz&next=../../x//y&u=http://h/',
      'weather',
      '/a',
      'q=%zz&next=../../x//y&u=http://h/',
    ],
    ['/api/weather/a?b?c', 'weather', '/a', 'b?c'],
    ['/api/0-a/x', '0-a', '/x', ''],
    [`/api/${'s'.repeat(63)}/x`, 's'.repeat(63), '/x', ''],
  ])('reads %s', (rawUrl, slug, path, query) => {
    expect(parseRequestTarget(rawUrl)).toEqual({ kind: 'target', slug, path, query });
  });

  it.each([
    // x402 #967: malformed percent-encoding made the middleware's decode fail, and the route free.
    ['/api/s/premium%', 'two hexadecimal digits'],
    ['/api/s/premium%2', 'two hexadecimal digits'],
    ['/api/s/%zz', 'two hexadecimal digits'],
    ['/api/s/%c0%ae%c0%ae/x', 'UTF-8'],
    ['/api/s/%ff', 'UTF-8'],
    ['/api/s/%ed%a0%80', 'UTF-8'],
    ['/api/%zz/x', 'two hexadecimal digits'],
    // GHSA-3j63-5h8p-gf7c: a double slash missed the priced route and reached it upstream.
    ['/api/s//premium', 'double slash'],
    ['/api/s/premium//', 'double slash'],
    ['/api//s/premium', 'double slash'],
    ['//api/s/premium', 'double slash'],
    ['//evil.example/api/s', 'double slash'],
    ['/api/s/a/../premium', 'dot segment'],
    ['/api/s/./premium', 'dot segment'],
    ['/api/s/..', 'dot segment'],
    ['/api/s/.', 'dot segment'],
    ['/api/s/%2e%2e/premium', 'dot segment'],
    ['/api/s/%2E./premium', 'dot segment'],
    ['/api/s/.%2e/premium', 'dot segment'],
    ['/api/s/%2e/premium', 'dot segment'],
    ['/api/s/..;/premium', 'dot segment'],
    ['/api/s/..;a=b/premium', 'dot segment'],
    ['/api/s/..%3b/premium', 'dot segment'],
    ['/api/s/.;/premium', 'dot segment'],
    ['/api/../api/s/premium', 'dot segment'],
    ['/api/s/;/premium', 'parameters alone'],
    ['/api/s/%3Bv=1/premium', 'parameters alone'],
    ['/api/s/a%2Fb', 'encoded slash'],
    ['/api/s/a%2fb', 'encoded slash'],
    ['/api/s/a%5Cb', 'encoded slash'],
    ['/api/s/..%2fpremium', 'encoded slash'],
    ['/api/s%2fpremium', 'encoded slash'],
    ['/api/s/a\\b', 'backslash'],
    ['/api\\s\\premium', 'backslash'],
    ['/api/s/a%00', 'control character'],
    ['/api/s/a%0d%0aX-Evil:1', 'control character'],
    ['/api/s/a%7f', 'control character'],
    ['/api/s/a%c2%85', 'control character'],
    ['/api/s/a\u0000', 'control character'],
    ['/api/s/a b', 'space'],
    ['/api/s/a?b c', 'space'],
    ['/api/s/a?b\r\nX: y', 'control character'],
    ['/api/s/caf\u00e9', 'beyond ASCII'],
    ['/api/s/a#b', 'fragment'],
    ['/api/s/a?b#c', 'fragment'],
    ['/api/s/{id}', 'percent-encoded'],
    ['/api/s/<a>', 'percent-encoded'],
    ['/api/s/a^b', 'percent-encoded'],
    ['http://gateway/api/s/premium', 'start with a slash'],
    ['HTTP://gateway/api/s/premium', 'start with a slash'],
    ['api/s/premium', 'start with a slash'],
    ['*', 'start with a slash'],
    ['', 'start with a slash'],
    ['gateway:8402', 'start with a slash'],
    [`/api/s/${'a'.repeat(requestTargetBytesMax)}`, `${requestTargetBytesMax} bytes`],
  ])('refuses %j', (rawUrl, reason) => {
    const result = parseRequestTarget(rawUrl);
    expect(result).toMatchObject({ kind: 'refused', code: 'invalid_path' });
    expect(result).toHaveProperty('detail', expect.stringContaining(reason));
  });

  it('takes a target of exactly the longest length', () => {
    const rawUrl = '/api/s/'.padEnd(requestTargetBytesMax, 'a');
    expect(parseRequestTarget(rawUrl)).toMatchObject({ kind: 'target', path: rawUrl.slice('/api/s'.length) });
  });

  it.each([
    '/',
    '/api',
    '/api/',
    '/apis/s/x',
    '/API/s',
    '/v1/s',
    '/%61pi/s',
    '/api/Weather/x',
    '/api/we_ther',
    '/api/%73/x',
    '/api/s;v=1/x',
    `/api/${'s'.repeat(64)}`,
  ])('knows nothing at %s', (rawUrl) => {
    expect(parseRequestTarget(rawUrl)).toMatchObject({ kind: 'refused', code: 'not_found' });
  });

  const piece = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.constantFrom(
        '/',
        '.',
        '..',
        ';',
        '%2e',
        '%2E',
        '%2f',
        '%5c',
        '%00',
        '%25',
        '%C3%A9',
        '%ff',
        '%',
        '?',
        '#',
        '\\',
        '//',
        ':',
        '@',
        '|',
        '[',
        ']',
        '^',
        '{',
        '"',
        '`',
        '<',
        ' ',
        '\t',
        '\n',
      ),
    },
    { weight: 4, arbitrary: fc.stringMatching(/^[a-z0-9]{1,3}$/) },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 2 }) },
  );

  it('accepts only paths that a URL parser keeps byte for byte', () => {
    let accepted = 0;
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        const target = parseRequestTarget(`/api/s/${pieces.join('')}`);
        if (target.kind === 'refused' || target.path === '') return;
        accepted += 1;
        expect(new URL(target.path, 'http://x').pathname).toBe(target.path);
        expect(new URL(`http://x${target.path}?${target.query}`).pathname).toBe(target.path);
      }),
      { numRuns: 5000 },
    );
    expect(accepted).toBeGreaterThan(100);
  });

  it('gives back every target that RFC 3986 and its own rules allow', () => {
    const segment = fc
      .stringMatching(/^[a-z0-9\-_~!$&'()*+,=:@]([a-z0-9\-._~!$&'()*+,;=:@]|%[2-6][1-9a-e]){0,6}$/)
      .filter((text) => !/%2f|%5c|%[2-6][^0-9a-f]/i.test(text));
    fc.assert(
      fc.property(
        fc.array(segment, { minLength: 1, maxLength: 4 }),
        fc.stringMatching(/^[!$-~]{0,12}$/),
        (segments, query) => {
          const path = `/${segments.join('/')}`;
          expect(parseRequestTarget(`/api/s${path}?${query}`)).toEqual({
            kind: 'target',
            slug: 's',
            path,
            query,
          });
        },
      ),
    );
  });
});
