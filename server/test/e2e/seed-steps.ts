/**
 * Steps of the seeds whose routes come with other parts of agent identity. Each is written as the seed prints it, and is skipped
 * while it stands here as `false`.
 */
export const stands: { readonly oauth: boolean; readonly verifiableCredentials: boolean } = {
  /** `POST /oauth/token` and `POST /oauth/refresh`. */
  oauth: true,
  /** `POST /agent/vc/issue` and `POST /verify-vc`. */
  verifiableCredentials: false,
};
