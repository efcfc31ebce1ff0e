import { algorithms } from '../signing-keys/signing-key.ts';

const authenticationMethods = ['client_secret_basic', 'client_secret_post', 'private_key_jwt'];

/** What clients learn of this server (RFC 8414 section 2). Whatever it names exists, and whatever exists it names. */
export function describeServer(issuer: string) {
  const atEndpoints = Object.fromEntries(
    ['token', 'introspection', 'revocation'].flatMap((name) => [
      [`${name}_endpoint_auth_methods_supported`, authenticationMethods],
      // RFC 8414 section 2: required where private_key_jwt is.
      [`${name}_endpoint_auth_signing_alg_values_supported`, algorithms],
    ]),
  );
  return {
    issuer,
    token_endpoint: `${issuer}/oauth/token`,
    introspection_endpoint: `${issuer}/oauth/introspect`,
    revocation_endpoint: `${issuer}/oauth/revoke`,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    // Stock clients can't read a document without one. It answers that there is no grant by redirect.
    authorization_endpoint: `${issuer}/oauth/authorize`,
    response_types_supported: [] as string[],
    grant_types_supported: ['client_credentials', 'refresh_token'],
    ...atEndpoints,
    dpop_signing_alg_values_supported: algorithms,
    service_documentation: `${issuer}/v1/openapi.json`,
    // OpenID Connect Discovery 1.0 section 3 asks for these, and for RS256 among them. No ID token is issued, as an agent is no person: verifiers
    // take it for what signs access tokens, and refuse every one where it is empty.
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: algorithms,
  };
}

/** What clients learn of our own API as a resource (RFC 9728 section 2). */
export function describeResource(issuer: string) {
  return {
    resource: issuer,
    authorization_servers: [issuer],
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    bearer_methods_supported: ['header'],
    dpop_signing_alg_values_supported: algorithms,
    resource_name: 'Credence',
  };
}
