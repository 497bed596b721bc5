// What REST tells of a person's consent to the web chat. Source: ConsentShape of the OpenAPI document.
export interface Consent {
  readonly state: 'needed' | 'given' | 'revoked';
  readonly grant?: string;
  readonly terms?: unknown;
  readonly statement?: string;
  readonly statement_digest?: string;
}
