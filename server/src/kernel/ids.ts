import { randomUUIDv7 } from 'node:crypto';

/** What each prefix names. Agents are bare UUIDv7. */
const idPrefixes = {
  audit_event: 'evt',
  api_key: 'key',
  client: 'cid',
  credential: 'cred',
  decision: 'dec',
  delegation: 'dlg',
  endpoint: 'ep',
  environment: 'env',
  hold: 'hold',
  link: 'lnk',
  organisation: 'org',
  outgoing_payment: 'out',
  payment: 'pay',
  resource: 'res',
  server: 'srv',
  wallet: 'wal',
} as const;

export type IdKind = keyof typeof idPrefixes;
/** `prefix_<26 characters>`: a TypeID (typeid.dev, version 0.3), time-ordered. */
export type Id<K extends IdKind> = `${(typeof idPrefixes)[K]}_${string}`;
/** A bare UUIDv7 (RFC 9562 section 5.7). */
export type AgentId = string & { readonly agentId: unique symbol };

export type EnvironmentId = Id<'environment'>;
export type OrganisationId = Id<'organisation'>;
export type ApiKeyId = Id<'api_key'>;
export type ClientId = Id<'client'>;
export type CredentialId = Id<'credential'>;
export type LinkId = Id<'link'>;
export type DelegationId = Id<'delegation'>;
export type PaymentId = Id<'payment'>;
export type OutgoingPaymentId = Id<'outgoing_payment'>;
export type ResourceId = Id<'resource'>;
export type ServerId = Id<'server'>;
export type EndpointId = Id<'endpoint'>;
export type WalletId = Id<'wallet'>;

const crockford = '0123456789abcdefghjkmnpqrstvwxyz';
const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function newId<K extends IdKind>(kind: K): Id<K> {
  return `${idPrefixes[kind]}_${encodeUuid(randomUUIDv7())}` as Id<K>;
}

export function newAgentId(): AgentId {
  return randomUUIDv7() as AgentId;
}

/** Whether the text has the form of our id; one that hasn't names nothing here, and is never a 400. */
export function isId<K extends IdKind>(kind: K, text: string): text is Id<K> {
  const prefix = `${idPrefixes[kind]}_`;
  return text.startsWith(prefix) && /^[0-7][0-9a-hjkmnp-tv-z]{25}$/.test(text.slice(prefix.length));
}

export function isAgentId(text: string): text is AgentId {
  return uuidPattern.test(text);
}

/** 128 bits as 26 Crockford characters, two zero bits first (TypeID section "suffix"). */
export function encodeUuid(uuid: string): string {
  const hex = uuid.replaceAll('-', '');
  // The first byte has the two zero bits before it; the others are six times 20 bits, each of them two pairs of characters.
  let text = pairs[Number.parseInt(hex.slice(0, 2), 16)] ?? '';
  for (let at = 2; at < 32; at += 5) {
    const bits = Number.parseInt(hex.slice(at, at + 5), 16);
    text += `${pairs[bits >> 10]}${pairs[bits & 1023]}`;
  }
  return text;
}

/** Two characters for each 10 bits. */
const pairs = Array.from({ length: 1024 }, (_, bits) => `${crockford[bits >> 5]}${crockford[bits & 31]}`);
