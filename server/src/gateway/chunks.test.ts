import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createChunks } from './chunks.ts';

describe('createChunks', () => {
  it('gives back what it was given, in order', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 5 }), { maxLength: 400 }), (parts) => {
        const chunks = createChunks();
        for (const part of parts) chunks.push(Buffer.from(part));
        const all = Buffer.concat(parts);
        expect(Buffer.concat(chunks.take())).toEqual(all);
        expect(chunks.bytes()).toBe(all.length);
      }),
    );
  });

  it('keeps few parts of an answer that comes in single bytes', () => {
    const chunks = createChunks();
    for (let at = 0; at < 100_000; at += 1) chunks.push(Buffer.from('x'));
    expect(chunks.take().length).toBeLessThan(100_000 / 50);
  });
});
