import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isSlug, slugOf } from './server.ts';

describe('a slug', () => {
  it.each(['a', '7', 'weather', 'weather-api-2', 'a--b', 'a'.repeat(63)])('may be %s', (text) => {
    expect(isSlug(text)).toBe(true);
  });

  it.each(['', '-', '-a', 'a-', 'A', 'a_b', 'a.b', 'a/b', 'a b', 'é', 'a\n', '%61', 'a'.repeat(64)])(
    'may not be %j',
    (text) => {
      expect(isSlug(text)).toBe(false);
    },
  );

  it.each([
    'v1',
    'api',
    'oauth',
    'docs',
    'health',
    'facilitator',
    'register',
    'refresh',
    'servers',
    'payments',
  ])('may not be our own word %s', (text) => {
    expect(isSlug(text)).toBe(false);
  });

  it.each([
    ['Weather API', 'weather-api'],
    ['  Söme -- Näme!  ', 'some-name'],
    ['Résumé', 'resume'],
    ['ℌello ﬁsh', 'hello-fish'],
    ['日本語', ''],
    ['', ''],
    [`${'a'.repeat(62)} b`, 'a'.repeat(62)],
  ])('of %j is %j', (name, slug) => {
    expect(slugOf(name)).toBe(slug);
  });

  it('of any name is a slug, or one of our words, or nothing', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 100 }), (name) => {
        expect(slugOf(name)).toMatch(/^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)?$/);
      }),
    );
  });
});
