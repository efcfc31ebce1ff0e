import { describe, expect, it } from 'vitest';

import { matchEndpoint, upstreamTarget } from './match.ts';

interface Endpoint {
  id: string;
  publicPath: string;
  methods: readonly string[] | null;
  enabled: boolean;
}

function endpoint(publicPath: string, methods: readonly string[] | null = null, id = publicPath): Endpoint {
  return { id, publicPath, methods, enabled: true };
}

function matched(endpoints: Endpoint[], method: string, path: string) {
  const match = matchEndpoint(endpoints, method, path);
  return match.kind === 'matched' ? [match.endpoint.id, match.rest] : match;
}

describe('matchEndpoint', () => {
  it.each([
    ['/users', ''],
    ['/users/123', '/123'],
    ['/users/123/profile', '/123/profile'],
    ['/users/', '/'],
    ['/users/123/', '/123/'],
    ['/users/a%20b', '/a%20b'],
  ])('/users takes %s', (path, rest) => {
    expect(matched([endpoint('/users')], 'GET', path)).toEqual(['/users', rest]);
  });

  it.each(['/users2', '/user', '/', '', '/Users', '/v1/users', '/users%32', '/users%20'])(
    '/users does not take %j',
    (path) => {
      expect(matched([endpoint('/users')], 'GET', path)).toEqual({ kind: 'not_found' });
    },
  );

  it.each([
    ['/users/123', '/users', '/123'],
    ['/users/me', '/users/me', ''],
    ['/users/me/x', '/users/me', '/x'],
    ['/users/mean', '/users', '/mean'],
    ['/other', '/', '/other'],
    ['', '/', ''],
  ])('the longest prefix wins for %j, in any order', (path, id, rest) => {
    const endpoints = [endpoint('/users'), endpoint('/'), endpoint('/users/me')];
    expect(matched(endpoints, 'GET', path)).toEqual([id, rest]);
    expect(matched(endpoints.toReversed(), 'GET', path)).toEqual([id, rest]);
  });

  it.each(['/users/', 'users', '//users'])('reads the public path %s as /users', (publicPath) => {
    expect(matched([endpoint(publicPath)], 'GET', '/users/1')).toEqual([publicPath, '/1']);
  });

  it.each([
    ['/%70remium/x', '/x'],
    ['/premiu%6D', ''],
    ['/premium;v=1/x', '/x'],
    ['/premium%3Bv=1/x', '/x'],
  ])('another spelling of a priced path, %s, is not served by the free one above it', (path, rest) => {
    const endpoints = [endpoint('/', null, 'free'), endpoint('/premium', null, 'priced')];
    expect(matched(endpoints, 'GET', path)).toEqual(['priced', rest]);
  });

  it('compares decoded, and gives back what was sent', () => {
    expect(matched([endpoint('/caf\u00e9')], 'GET', '/caf%C3%A9/na%C3%AFve')).toEqual([
      '/caf\u00e9',
      '/na%C3%AFve',
    ]);
    expect(matched([endpoint('/caf%c3%a9')], 'GET', '/caf%C3%A9')).toEqual(['/caf%c3%a9', '']);
  });

  it('lets disabled endpoints match nothing', () => {
    const endpoints = [{ ...endpoint('/users'), enabled: false }];
    expect(matched(endpoints, 'GET', '/users')).toEqual({ kind: 'not_found' });
  });

  it.each(['/users/me', '/users/me/x', '/users/m%65'])(
    'a disabled endpoint does not let %s fall through to a shorter, perhaps cheaper, one',
    (path) => {
      const disabled = { ...endpoint('/users/me'), enabled: false };
      const endpoints = [endpoint('/'), endpoint('/users'), disabled];
      expect(matched(endpoints, 'GET', path)).toEqual({ kind: 'not_found' });
      expect(matched(endpoints.toReversed(), 'GET', path)).toEqual({ kind: 'not_found' });
      expect(matched(endpoints, 'GET', '/users/you')).toEqual(['/users', '/you']);
    },
  );

  describe('methods', () => {
    const endpoints = [
      endpoint('/', null, 'all'),
      endpoint('/users', ['GET'], 'read'),
      endpoint('/users', ['POST', 'PUT'], 'write'),
      endpoint('/jobs', null, 'any job'),
      endpoint('/jobs', ['POST'], 'new job'),
      endpoint('/probe', ['HEAD'], 'probe'),
    ];
    it.each([
      ['GET', '/users', 'read'],
      ['HEAD', '/users', 'read'],
      ['POST', '/users', 'write'],
      ['PUT', '/users/1', 'write'],
      ['POST', '/jobs', 'new job'],
      ['GET', '/jobs', 'any job'],
      ['DELETE', '/other', 'all'],
      ['HEAD', '/probe', 'probe'],
    ])('%s %s goes to "%s"', (method, path, id) => {
      expect(matched(endpoints, method, path)).toEqual([id, expect.any(String)]);
    });

    it('a method that the longest prefix lacks is not looked for in a shorter one', () => {
      expect(matched(endpoints, 'DELETE', '/users/1')).toEqual({
        kind: 'method_not_allowed',
        allow: ['GET', 'HEAD', 'POST', 'PUT'],
      });
    });

    it('names HEAD only where GET or HEAD is served', () => {
      expect(matched([endpoint('/a', ['POST'])], 'HEAD', '/a')).toEqual({
        kind: 'method_not_allowed',
        allow: ['POST'],
      });
      expect(matched([endpoint('/a', ['HEAD'])], 'GET', '/a')).toEqual({
        kind: 'method_not_allowed',
        allow: ['HEAD'],
      });
    });

    it('a disabled endpoint allows no method', () => {
      const disabled = [{ ...endpoint('/a', ['POST']), enabled: false }, endpoint('/a', ['PUT'])];
      expect(matched(disabled, 'POST', '/a')).toEqual({ kind: 'method_not_allowed', allow: ['PUT'] });
    });
  });
});

describe('upstreamTarget', () => {
  it.each([
    // Public /users, private /v2/users.
    ['https://api.example.com', '/v2/users', '/123', '', '/v2/users/123'],
    ['https://api.example.com', '/v2/users', '', '', '/v2/users'],
    ['https://api.example.com', '/v2/weather?apiKey=sk-abc', '', 'q=1', '/v2/weather?apiKey=sk-abc&q=1'],
    ['https://api.example.com', '/v2/weather?apiKey=sk-abc', '/today', '', '/v2/weather/today?apiKey=sk-abc'],
    ['https://api.example.com/', '/', '', '', '/'],
    ['https://api.example.com', '', '', '', '/'],
    ['https://api.example.com', '', '/a', 'x', '/a?x'],
    ['https://api.example.com', '?key=1', '/a', 'x=2', '/a?key=1&x=2'],
    ['https://api.example.com/base', '/v2', '/a', '', '/base/v2/a'],
    ['https://api.example.com/base/', '/v2/', '/a', '', '/base/v2/a'],
    ['https://api.example.com/base/', 'v2', '', '', '/base/v2'],
    ['https://api.example.com/base', '', '', '', '/base'],
    ['https://api.example.com', '/v2/', '', '', '/v2/'],
    ['https://api.example.com', '/v2', '/', '', '/v2/'],
    ['https://api.example.com', '/v2/', '/', '', '/v2/'],
    // What the client sent goes out byte for byte.
    [
      'https://api.example.com',
      '/v2',
      '/a%20b/%7E|[x]',
      "q=%zz&r=a+b&s='&t=a=b&&u",
      "/v2/a%20b/%7E|[x]?q=%zz&r=a+b&s='&t=a=b&&u",
    ],
    // The private path's parameters win, however the client spells their names.
    ['https://api.example.com', '/w?apiKey=sk', '', 'apiKey=evil&q=1', '/w?apiKey=sk&q=1'],
    ['https://api.example.com', '/w?apiKey=sk', '', 'q=1&apiKey=evil&apiKey', '/w?apiKey=sk&q=1'],
    ['https://api.example.com', '/w?apiKey=sk', '', 'api%4Bey=evil', '/w?apiKey=sk'],
    ['https://api.example.com', '/w?api%4Bey=sk', '', 'apiKey=evil', '/w?api%4Bey=sk'],
    ['https://api.example.com', '/w?api+key=sk', '', 'api%20key=evil&api+key=evil', '/w?api+key=sk'],
    ['https://api.example.com', '/w?apiKey=sk', '', 'q=1;apiKey=evil&r=2', '/w?apiKey=sk&r=2'],
    [
      'https://api.example.com',
      '/w?apiKey=sk',
      '',
      'apiKeys=1&xapiKey=2',
      '/w?apiKey=sk&apiKeys=1&xapiKey=2',
    ],
    // A seller's own text is made fit for a request line.
    ['https://api.example.com', '/caf\u00e9 au lait?q=a b', '/x', '', '/caf%C3%A9%20au%20lait/x?q=a%20b'],
    ['https://api.example.com', '/a#b', '', '', '/a%23b'],
  ])('%s + %s + %j + ?%s', (baseUrl, privatePath, rest, query, target) => {
    expect(upstreamTarget({ baseUrl, privatePath, rest, query })).toEqual({
      origin: 'https://api.example.com',
      target,
    });
  });

  it('keeps the port, and leaves credentials, query and fragment of the base URL behind', () => {
    expect(
      upstreamTarget({
        baseUrl: 'http://user:pw@127.0.0.1:8081/b?x=1#f',
        privatePath: '/p',
        rest: '',
        query: '',
      }),
    ).toEqual({ origin: 'http://127.0.0.1:8081', target: '/b/p' });
  });

  it('throws on a base URL that is none', () => {
    expect(() =>
      upstreamTarget({ baseUrl: 'api.example.com', privatePath: '', rest: '', query: '' }),
    ).toThrow(TypeError);
  });
});
