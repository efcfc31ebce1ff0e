import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseBaseUrl, parsePath } from './upstream-url.ts';

const dialAll = () => true;
const dialPublic = (address: string) => address === '93.184.216.34';
const invalid = (message: string) =>
  expect.objectContaining({ code: 'invalid_request', message: expect.stringContaining(message) });

describe('a base URL', () => {
  it.each([
    ['https://api.example.com', 'https://api.example.com'],
    ['https://api.example.com/', 'https://api.example.com'],
    ['https://API.example.com:443/v2/', 'https://api.example.com/v2'],
    ['http://127.0.0.1:8081/base//', 'http://127.0.0.1:8081/base'],
    ['http://[::1]:8081', 'http://[::1]:8081'],
    ['https://api.example.com/?', 'https://api.example.com'],
    ['https://api.example.com/v2/#', 'https://api.example.com/v2'],
  ])('%s is kept as %s', (text, kept) => {
    expect(parseBaseUrl(text, dialAll)).toBe(kept);
  });

  it.each([
    ['api.example.com', 'http or https'],
    ['ftp://api.example.com', 'http or https'],
    ['file:///etc/passwd', 'http or https'],
    ['javascript:alert(1)', 'http or https'],
    ['https://', 'http or https'],
    ['', 'http or https'],
    ['https://user@api.example.com', 'user or password'],
    ['https://:pw@api.example.com', 'user or password'],
    ['https://api.example.com?key=1', 'query or fragment'],
    ['https://api.example.com/#a', 'query or fragment'],
  ])('%j is refused: %s', (text, message) => {
    expect(() => parseBaseUrl(text, dialAll)).toThrow(invalid(message));
  });

  it.each([
    ['http://127.0.0.1'],
    ['http://2130706433'],
    ['http://0x7f.1'],
    ['http://0177.0.0.1'],
    ['http://[::1]'],
    ['http://[::ffff:127.0.0.1]'],
    ['http://169.254.169.254/latest'],
  ])('%s names an address that may not be dialled', (text) => {
    expect(() => parseBaseUrl(text, dialPublic)).toThrow(invalid('not public'));
  });

  it('may name an address that is public, and any name: that is judged when it is dialled', () => {
    expect(parseBaseUrl('http://93.184.216.34', dialPublic)).toBe('http://93.184.216.34');
    expect(parseBaseUrl('http://localhost', dialPublic)).toBe('http://localhost');
  });

  it('once kept, is kept as it is', () => {
    fc.assert(
      fc.property(fc.webUrl({ withQueryParameters: false, withFragments: false }), (text) => {
        const kept = parseBaseUrl(text, dialAll);
        expect(parseBaseUrl(kept, dialAll)).toBe(kept);
        expect(kept).not.toMatch(/[?#]|\/$/);
      }),
    );
  });
});

describe('a path', () => {
  it.each([
    ['/weather', '/weather'],
    ['/weather/', '/weather'],
    ['/', '/'],
    ['/v2/caf%C3%A9', '/v2/caf%C3%A9'],
    ['/a.b/c-d_e~f', '/a.b/c-d_e~f'],
  ])('%s is kept as %s', (text, kept) => {
    expect(parsePath(text, 'public_path', { query: false })).toBe(kept);
  });

  it.each(['/w?apiKey=sk', '/w?a=1&b=2', '/w?a=1?b'])('%s may have a query where that is allowed', (text) => {
    expect(parsePath(text, 'private_path', { query: true })).toBe(text);
    expect(() => parsePath(text, 'public_path', { query: false })).toThrow(
      invalid('public_path must have no query'),
    );
  });

  it('loses a final slash before its query', () => {
    expect(parsePath('/w/?a=1', 'private_path', { query: true })).toBe('/w?a=1');
  });

  it.each(
    [
      'weather',
      '',
      '//evil.example/x',
      '/a//b',
      '/a/../b',
      '/a/./b',
      '/..',
      '/a/%2e%2e/b',
      '/a/%2E',
      '/a b',
      '/a\tb',
      '/a\nb',
      '/a\\b',
      '/a#b',
      '/café',
      'https://x/y',
      '/a?b c',
      '/a?b#c',
      '?a=1',
    ].map((text) => [text]),
  )('%j is refused, naming the field', (text) => {
    expect(() => parsePath(text, 'public_path', { query: true })).toThrow(invalid('public_path'));
  });
});
