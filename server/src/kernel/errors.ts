/**
 * Every way a request can fail, in one place: the status it has and the sentence that names it.
 * Renderers for problem+json, OAuth (RFC 6749 section 5.2) and x402 stand in `http/` and `gateway/`.
 */
export const errorCodes = {
  invalid_request: { status: 400, title: 'The request is not valid' },
  missing_agent_id: { status: 400, title: 'Missing X-Agent-ID' },
  invalid_path: { status: 400, title: 'The path cannot be forwarded safely' },
  no_supported_payment_option: { status: 400, title: 'No offer can be paid by this wallet' },
  invalid_payment: { status: 400, title: 'The payment header cannot be read' },
  invalid_grant: { status: 400, title: 'The grant is not valid any more' },
  invalid_scope: { status: 400, title: 'The scope is more than may be given' },
  invalid_target: { status: 400, title: 'The resource is not known' },
  invalid_dpop_proof: { status: 400, title: 'The DPoP proof is not valid' },
  use_dpop_nonce: { status: 400, title: 'The DPoP proof needs our nonce' },
  unauthorized_client: { status: 400, title: 'The client may not use this grant' },
  unsupported_grant_type: { status: 400, title: 'The grant type is not supported' },
  unsupported_response_type: { status: 400, title: 'The response type is not supported' },
  unauthorized: { status: 401, title: 'Credentials are missing or not valid' },
  invalid_client: { status: 401, title: 'The agent and its token do not match' },
  agent_authentication_failed: { status: 401, title: 'Agent authentication failed' },
  payment_required: { status: 402, title: 'Payment Required' },
  payment_invalid: { status: 402, title: 'The payment does not satisfy the terms' },
  payment_expiring: { status: 402, title: 'The payment expires too soon' },
  insufficient_funds: { status: 402, title: 'The payer has not enough funds' },
  payer_suspended: { status: 402, title: 'The payer is suspended' },
  settlement_failed: { status: 402, title: 'Settlement failed' },
  settlement_pending: { status: 402, title: 'Settlement is pending' },
  forbidden: { status: 403, title: 'Not allowed' },
  agent_not_linked: { status: 403, title: 'The agent is not linked to a wallet' },
  mandate_not_signed: { status: 403, title: 'The mandate is not signed' },
  payment_denied: { status: 403, title: 'The mandate does not allow this payment' },
  not_found: { status: 404, title: 'Not found' },
  endpoint_not_found: { status: 404, title: 'Endpoint not found' },
  method_not_allowed: { status: 405, title: 'Method not allowed' },
  conflict: { status: 409, title: 'Conflicts with what is there' },
  environment_required: { status: 409, title: 'The environment is not clear' },
  idempotency_key_reused: { status: 409, title: 'The Idempotency-Key was used for another request' },
  payment_already_used: { status: 409, title: 'The payment was already used' },
  payment_in_flight: { status: 409, title: 'The payment is being worked on' },
  payment_refunded: { status: 409, title: 'The payment was given back' },
  response_not_replayable: { status: 409, title: 'The answer cannot be given again' },
  mandate_expired: { status: 410, title: 'The mandate request has expired' },
  payload_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The body has an unsupported type' },
  rate_limited: { status: 429, title: 'Too many requests' },
  quota_exceeded: { status: 429, title: 'The quota is used up' },
  internal_error: { status: 500, title: 'Something went wrong here' },
  not_implemented: { status: 501, title: 'Not supported' },
  upstream_failed: { status: 502, title: 'Upstream request failed' },
  gateway_busy: { status: 503, title: 'The gateway has no room for another answer' },
  unavailable: { status: 503, title: 'Not available at the moment' },
} as const satisfies Record<string, { status: number; title: string }>;

/** The `code` of a problem document. */
export type ErrorCode = keyof typeof errorCodes;

/** What an error tells besides its sentence. */
export interface ErrorDetails {
  /** Which fields were wrong, and how. */
  errors?: readonly { field: string; message: string }[];
  /** What to do next, in a form that an agent can follow. */
  next?: Readonly<Record<string, string>>;
  /** Members beside the standard ones, such as the decision that denied. */
  extra?: Readonly<Record<string, unknown>>;
  /** Headers that the error calls for, such as a challenge of its own (RFC 9110 section 11.6.1). */
  headers?: Readonly<Record<string, string>>;
  /** How long to wait, in whole seconds: the `Retry-After` of the answer. */
  retryAfterSeconds?: number;
  cause?: unknown;
}

/** The one error that a request ends with. `message` is public: it goes to the caller as `detail`. */
export class AppError extends Error {
  override name = 'AppError';
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.details = details;
  }

  get status(): number {
    return errorCodes[this.code].status;
  }
}
