import { isIPv6 } from 'node:net';

/**
 * What stands for one caller where callers are counted by address: an IPv4 address, or the /64 of an IPv6 one, of which a
 * single machine commonly has all 2^64 addresses (RFC 7421 section 2).
 */
export function addressBlock(address: string): string {
  const bare = address.split('%', 1)[0] ?? '';
  // The first look spares an IPv4 address the second, which costs as much as reading a form.
  if (!bare.includes(':') || !isIPv6(bare)) return bare;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare)?.[1];
  if (mapped !== undefined) return mapped;
  const [head = '', tail] = bare.split('::');
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length;
  const whole = [...before, ...Array.from({ length: zeros }, () => '0'), ...after];
  return `${whole.slice(0, 4).join(':')}::/64`;
}

/** Without leading zeros; an IPv4 address at the end stands for two groups. */
function groups(text: string): string[] {
  if (text === '') return [];
  return text
    .split(':')
    .flatMap((group) => (group.includes('.') ? ['0', '0'] : [Number.parseInt(group, 16).toString(16)]));
}
