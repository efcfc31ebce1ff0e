import { describe, expect, it } from 'vitest';
import { median, ratios } from './statistics.ts';

describe('median', () => {
  it.each([
    [[3], 3],
    [[10, 9, 100], 10],
    [[4, 1, 3, 2], 2.5],
  ])('of %j is %d', (values, expected) => {
    expect(median(values)).toBe(expected);
  });
});

describe('ratios', () => {
  it('compares within a repetition, and leaves out what has no counterpart', () => {
    expect(ratios([10, 30, 50], [5, 10])).toEqual([2, 3]);
  });
});
