import { describe, expect, it } from 'vitest';
import { encodeUuid, isAgentId, isId, newAgentId, newId } from './ids.ts';

// The specification's own vectors: github.com/jetify-com/typeid, spec/valid.yml, version 0.3.
describe('a TypeID suffix', () => {
  it.each([
    ['00000000-0000-0000-0000-000000000000', '00000000000000000000000000'],
    ['00000000-0000-0000-0000-000000000001', '00000000000000000000000001'],
    ['00000000-0000-0000-0000-00000000000a', '0000000000000000000000000a'],
    ['00000000-0000-0000-0000-000000000010', '0000000000000000000000000g'],
    ['00000000-0000-0000-0000-000000000020', '00000000000000000000000010'],
    ['ffffffff-ffff-ffff-ffff-ffffffffffff', '7zzzzzzzzzzzzzzzzzzzzzzzzz'],
    ['0110c853-1d09-52d8-d73e-1194e95b5f19', '0123456789abcdefghjkmnpqrs'],
    ['01890a5d-ac96-774b-bcce-b302099a8057', '01h455vb4pex5vsknk084sn02q'],
  ])('encodes %s', (uuid, suffix) => {
    expect(encodeUuid(uuid)).toBe(suffix);
  });
});

describe('newId', () => {
  it('has our form, and is another each time', () => {
    const ids = Array.from({ length: 100 }, () => newId('hold'));
    expect(ids.every((id) => isId('hold', id) && /^hold_01[0-9a-hjkmnp-tv-z]{24}$/.test(id))).toBe(true);
    expect(new Set(ids).size).toBe(100);
  });

  it('sorts by the time of its making', async () => {
    const first = newId('payment');
    await new Promise((resolve) => setTimeout(resolve, 3));
    expect(first < newId('payment')).toBe(true);
  });
});

describe('isId', () => {
  const suffix = '01h455vb4pex5vsknk084sn02q';
  it.each([
    ['takes its own form', `pay_${suffix}`, true],
    ['refuses another kind', `out_${suffix}`, false],
    ['refuses a bare suffix', suffix, false],
    ['refuses nothing', '', false],
    ['refuses a prefix alone', 'pay_', false],
    ['refuses a suffix too short', `pay_${suffix.slice(1)}`, false],
    ['refuses a suffix too long', `pay_${suffix}0`, false],
    ['refuses capitals', `pay_${suffix.toUpperCase()}`, false],
    ['refuses what has more than 128 bits', 'pay_8zzzzzzzzzzzzzzzzzzzzzzzzz', false],
    ['refuses letters that the alphabet leaves out', `pay_${suffix.slice(0, -1)}u`, false],
    ['refuses a final line break', `pay_${suffix}\n`, false],
    ['refuses a second prefix', `pay_pay_${suffix}`, false],
  ])('%s', (_rule, text, expected) => {
    expect(isId('payment', text)).toBe(expected);
  });
});

describe('isAgentId', () => {
  it.each([
    [newAgentId(), true],
    ['01890a5d-ac96-774b-bcce-b302099a8057', true],
    ['01890A5D-AC96-774B-BCCE-B302099A8057', false],
    ['01890a5dac96774bbcceb302099a8057', false],
    ['{01890a5d-ac96-774b-bcce-b302099a8057}', false],
    ['01890a5d-ac96-774b-bcce-b302099a8057\n', false],
    ['', false],
  ])('%j: %s', (text, expected) => {
    expect(isAgentId(text)).toBe(expected);
  });
});
