import { lookup as dnsLookup } from 'node:dns';
import type { LookupAddress, LookupOptions } from 'node:dns';
import { BlockList, isIP } from 'node:net';
import type { LookupFunction } from 'node:net';

import { buildConnector } from 'undici';

import { StartupError } from './startup-error.ts';

/** Why an address that others named is dialled; the operator allows private ranges for each purpose alone. */
export const egressPurposes = ['upstream', 'webhook', 'metadata', 'oidc'] as const;
export type EgressPurpose = (typeof egressPurposes)[number];

/** A range of addresses, `prefixBits` being the length of its network part. */
export interface AddressRange {
  readonly address: string;
  readonly prefixBits: number;
  readonly family: 'ipv4' | 'ipv6';
}

/** What the operator allows beside public addresses. */
export type EgressAllow = Readonly<Record<EgressPurpose, readonly AddressRange[]>>;

/** An address, or each address of a name, that may not be dialled. */
export class EgressRefusedError extends Error {
  override name = 'EgressRefusedError';
  readonly code = 'EGRESS_REFUSED';
  readonly host: string;
  readonly address: string;

  constructor(purpose: EgressPurpose, host: string, address: string) {
    super(`${host} is at ${address}, which may not be dialled as ${purpose}`);
    this.host = host;
    this.address = address;
  }
}

/** Judges addresses that others name, when they are named and when they are dialled. */
export interface EgressGuard {
  /** Whether this IP address may be dialled; anything that isn't an IP address may not. */
  mayDial(purpose: EgressPurpose, ip: string): boolean;
  /** A `lookup` for `net`, `tls` and `http` options, which answers only with addresses that may be dialled. */
  guardedLookup(purpose: EgressPurpose): LookupFunction;
  /** A connector for undici's `Pool` and `Agent`; it covers IP literals too, which Node dials without a lookup. */
  guardedConnect(purpose: EgressPurpose, options?: { timeoutMs?: number }): buildConnector.connector;
}

type ResolveAll = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

// Neither public nor private: nothing that an operator could mean to allow answers here, or it hands out the host's own keys.
const neverRanges = ranges([
  '0.0.0.0/8', // "this host": Linux dials itself
  '169.254.0.0/16', // link-local, and with it most clouds' metadata service
  '224.0.0.0/4', // multicast
  '255.255.255.255/32',
  '100.100.100.200/32', // Alibaba metadata
  '168.63.129.16/32', // Azure's host agent, a public address
  '192.0.0.192/32', // Oracle metadata, classic
  '::/128',
  'fe80::/10', // link-local
  'ff00::/8', // multicast
  'fd00:ec2::/32', // AWS metadata, time, DNS and pod identity
  'fd20:ce::254/128', // Google metadata
  'fd00:c1::a9fe:a9fe/128', // Oracle metadata
  'fd00:42::42/128', // Scaleway metadata
]);

const loopbackRanges = ranges(['127.0.0.0/8', '::1/128']);

// RFC 6890 and the IANA special-purpose registries, beside the ranges above and the embedding ones below.
const privateRanges = ranges([
  '10.0.0.0/8',
  '100.64.0.0/10',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '240.0.0.0/4',
]);

// Only 2000::/3 is given out as public unicast; these parts of it are not.
const publicIpv6 = ranges(['2000::/3']);
const nonPublicIpv6 = ranges(['2001::/23', '2001:db8::/32', '3fff::/20']);

const neverList = blockList(neverRanges);
const loopbackList = blockList(loopbackRanges);
const privateList = blockList(privateRanges);
const publicIpv6List = blockList(publicIpv6);
const nonPublicIpv6List = blockList(nonPublicIpv6);

/**
 * Reads `CREDENCE_EGRESS_ALLOW`, such as `upstream=10.0.0.0/8;webhook=192.168.0.0/16,fd00::/8`.
 * Throws StartupError naming the entry that is wrong.
 */
export function parseEgressAllow(text: string | undefined): EgressAllow {
  const allow: Record<EgressPurpose, AddressRange[]> = { upstream: [], webhook: [], metadata: [], oidc: [] };
  for (const part of (text ?? '').split(';')) {
    if (part.trim() === '') continue;
    const [name = '', list, ...more] = part.split('=');
    const purpose = egressPurposes.find((known) => known === name.trim());
    if (purpose === undefined || list === undefined || more.length > 0) {
      throw new StartupError(
        `CREDENCE_EGRESS_ALLOW: "${oneLine(part)}" should be a purpose (${egressPurposes.join(', ')}), "=", and ranges separated by commas.`,
      );
    }
    for (const entry of list.split(',')) allow[purpose].push(allowedRange(entry));
  }
  return allow;
}

/** Makes the guard that every dial to an address named by others goes through. `resolve` is for a resolver other than the system's. */
export function createEgressGuard(options: {
  allow: EgressAllow;
  allowLoopback: boolean;
  resolve?: ResolveAll;
}): EgressGuard {
  const resolve: ResolveAll = options.resolve ?? dnsLookup;
  const allowLists: Record<EgressPurpose, BlockList> = {
    upstream: blockList(options.allow.upstream),
    webhook: blockList(options.allow.webhook),
    metadata: blockList(options.allow.metadata),
    oidc: blockList(options.allow.oidc),
  };

  const mayDial: EgressGuard['mayDial'] = (purpose, ip) => {
    // A zone names a link, so the address is link-local whatever it looks like.
    if (isIP(ip) === 0 || ip.includes('%')) return false;
    return addressesInside(ip).every((address) => {
      if (contains(neverList, address)) return false;
      if (contains(allowLists[purpose], address)) return true;
      if (contains(loopbackList, address)) return options.allowLoopback;
      return isPublic(address);
    });
  };

  const guardedLookup: EgressGuard['guardedLookup'] = (purpose) => (hostname, lookupOptions, callback) => {
    resolve(hostname, { ...lookupOptions, all: true }, (error, found) => {
      if (error) return callback(error, []);
      const dialled = found.filter(({ address }) => mayDial(purpose, address));
      const first = dialled[0];
      if (first === undefined) {
        return callback(new EgressRefusedError(purpose, hostname, found[0]?.address ?? 'no address'), []);
      }
      return lookupOptions.all === true
        ? callback(null, dialled)
        : callback(null, first.address, first.family);
    });
  };

  const guardedConnect: EgressGuard['guardedConnect'] = (purpose, { timeoutMs = 10_000 } = {}) => {
    const connect = buildConnector({ timeout: timeoutMs, lookup: guardedLookup(purpose) });
    return (target, callback) => {
      const literal = target.hostname.replace(/^\[(.*)\]$/, '$1');
      if (isIP(literal) !== 0 && !mayDial(purpose, literal)) {
        return callback(new EgressRefusedError(purpose, target.hostname, literal), null);
      }
      return connect(target, callback);
    };
  };

  return { mayDial, guardedLookup, guardedConnect };
}

function isPublic(address: string): boolean {
  if (isIP(address) === 4) return !contains(privateList, address);
  return contains(publicIpv6List, address) && !contains(nonPublicIpv6List, address);
}

/**
 * The addresses by which to judge this one: the IPv4 addresses that an IPv6 address carries, else itself.
 * Whoever dials `64:ff9b::a00:1` through a NAT64 reaches 10.0.0.1.
 */
function addressesInside(ip: string): string[] {
  if (isIP(ip) === 4) return [ip];
  const words = ipv6Words(ip);
  const high = words.slice(0, 6).join(',');
  const low = ipv4At(words, 6);
  // ::/96 (IPv4-compatible; :: and ::1 are themselves), ::ffff:0:0/96 (mapped), ::ffff:0:0:0/96 (translated), 64:ff9b::/96 (RFC 6052)
  if (high === '0,0,0,0,0,0' && low !== '0.0.0.0' && low !== '0.0.0.1') return [low];
  if (['0,0,0,0,0,65535', '0,0,0,0,65535,0', '100,65435,0,0,0,0'].includes(high)) return [low];
  // 2002::/16 (RFC 3056) carries the relay's address, 2001::/32 (RFC 4380) the server's and the client's, inverted.
  if (words[0] === 0x2002) return [ipv4At(words, 1)];
  if (words[0] === 0x2001 && words[1] === 0) {
    const inverted = words.map((word) => word ^ 0xffff);
    return [ipv4At(words, 2), ipv4At(inverted, 6)];
  }
  return [ip];
}

function ipv4At(words: readonly number[], index: number): string {
  const [high = 0, low = 0] = words.slice(index, index + 2);
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
}

/** The eight 16-bit words of a valid IPv6 address. */
function ipv6Words(ip: string): number[] {
  // The URL parser turns each spelling, dotted quads included, into lower-case words and at most one "::".
  const [head = '', tail] = new URL(`http://[${ip}]`).hostname.slice(1, -1).split('::');
  const [before, after] = [hexWords(head), hexWords(tail ?? '')];
  return [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after];
}

function hexWords(text: string): number[] {
  return text === '' ? [] : text.split(':').map((word) => parseInt(word, 16));
}

function allowedRange(entry: string): AddressRange {
  const range = parseRange(entry.trim());
  if (range === undefined) {
    throw new StartupError(
      `CREDENCE_EGRESS_ALLOW: "${oneLine(entry)}" is not an address or a range such as 10.0.0.0/8.`,
    );
  }
  const inside = addressesInside(range.address)[0];
  if (inside !== range.address) {
    throw new StartupError(
      `CREDENCE_EGRESS_ALLOW: "${oneLine(entry)}" carries IPv4 addresses; allow the IPv4 range itself.`,
    );
  }
  const isNever = neverRanges.some(
    (never) =>
      never.family === range.family &&
      never.prefixBits <= range.prefixBits &&
      contains(blockList([never]), range.address),
  );
  if (isNever) {
    throw new StartupError(
      `CREDENCE_EGRESS_ALLOW: "${oneLine(entry)}" is never dialled (link-local, metadata service or multicast); remove it.`,
    );
  }
  return range;
}

function parseRange(text: string): AddressRange | undefined {
  const [address = '', bits, ...more] = text.split('/');
  const version = isIP(address);
  if (version === 0 || address.includes('%') || more.length > 0) return undefined;
  const bitsMax = version === 4 ? 32 : 128;
  if (bits !== undefined && !/^\d{1,3}$/.test(bits)) return undefined;
  const prefixBits = bits === undefined ? bitsMax : Number(bits);
  return prefixBits > bitsMax ? undefined : { address, prefixBits, family: version === 4 ? 'ipv4' : 'ipv6' };
}

function ranges(texts: readonly string[]): AddressRange[] {
  return texts.map((text) => {
    const range = parseRange(text);
    if (range === undefined) throw new Error(`not a range: ${text}`);
    return range;
  });
}

function blockList(list: readonly AddressRange[]): BlockList {
  const result = new BlockList();
  for (const range of list) result.addSubnet(range.address, range.prefixBits, range.family);
  return result;
}

function contains(list: BlockList, address: string): boolean {
  return list.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6');
}

function oneLine(text: string): string {
  return text.trim().replace(/\s+/g, ' ').slice(0, 100);
}
