import { AppError } from '../../kernel/errors.ts';

/** What a request shows of its client, not yet believed. */
export type ClientProof =
  | { method: 'client_secret_basic' | 'client_secret_post'; clientId: string; secret: string }
  | { method: 'private_key_jwt'; clientId: string | undefined; assertion: string }
  | { method: 'none'; clientId: string | undefined };

/** The parameters that authenticate a client in a body. */
export interface ClientParameters {
  client_id?: string;
  client_secret?: string;
  client_assertion?: string;
  client_assertion_type?: string;
}

const assertionType = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

/**
 * Reads how a client authenticates. RFC 6749 section 2.3: one method in a request and no more, or `invalid_request`.
 * What can't be read is `invalid_client`.
 */
export function readClientProof(authorization: string | undefined, body: ClientParameters): ClientProof {
  const { client_id: clientId, client_secret: secret, client_assertion: assertion } = body;
  const methods = [authorization, secret, assertion].filter((value) => value !== undefined);
  if (methods.length > 1)
    throw new AppError('invalid_request', 'Authenticate the client in one way, not in several');
  if (authorization !== undefined) {
    const proof = readBasic(authorization);
    if (clientId !== undefined && clientId !== proof.clientId)
      throw new AppError('invalid_request', 'client_id is not the client of the Authorization header');
    return proof;
  }
  if (secret !== undefined) {
    if (clientId === undefined) throw new AppError('invalid_request', 'client_secret needs client_id');
    return { method: 'client_secret_post', clientId, secret };
  }
  if (assertion !== undefined) {
    if (body.client_assertion_type !== assertionType)
      throw new AppError('invalid_request', `client_assertion_type must be ${assertionType}`);
    return { method: 'private_key_jwt', clientId, assertion };
  }
  return { method: 'none', clientId };
}

/** The 401 of a client that is not known, or is not who it says (RFC 6749 section 5.2). */
export function invalidClient(message: string, usedBasic: boolean): AppError {
  return new AppError('invalid_client', message, { headers: usedBasic ? basicChallenge : noChallenge });
}

const basicChallenge = { 'www-authenticate': 'Basic realm="credence", charset="UTF-8"' };
/** Who authenticated in the body gets no challenge: RFC 6749 section 5.2 asks for one only where the header was used. */
const noChallenge = {};

/** RFC 6749 section 2.3.1: identifier and secret are form-urlencoded first, and then joined and base64-encoded. */
function readBasic(authorization: string): ClientProof & { clientId: string } {
  const encoded = /^Basic +([A-Za-z0-9+/]+={0,2}) *$/i.exec(authorization)?.[1];
  const text = encoded === undefined ? undefined : Buffer.from(encoded, 'base64').toString();
  const colon = text?.indexOf(':') ?? -1;
  const clientId = text === undefined || colon < 1 ? undefined : formDecode(text.slice(0, colon));
  const secret = text === undefined || colon < 1 ? undefined : formDecode(text.slice(colon + 1));
  if (clientId === undefined || secret === undefined)
    throw invalidClient('The Authorization header must be "Basic" with client_id:client_secret', true);
  return { method: 'client_secret_basic', clientId, secret };
}

function formDecode(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}
