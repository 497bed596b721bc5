// Generated from contracts/token.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as identity_v1 from './identity.v1.ts';
import type * as unit_v1 from './unit.v1.ts';

/** The claims of a dispatch token (typ dispatch+jwt): what may this one dispatch do, and who may present it? */
export type DispatchClaims = {
  /** The issuer: https://HOST/identity. Each kind of token has its own, so that one cannot pass for another. */
  readonly iss: string;
  /** The person. It never changes along the chain. */
  readonly sub: unit_v1.Subject;
  /** Who acts: the dispatch, for the launcher. */
  readonly act: identity_v1.DispatchActor;
  /** The launcher again, because policy may read only the top level (RFC 8693, 4.1). */
  readonly launcher: unit_v1.Launcher;
  /** The gateway, and the token service behind it: https://HOST/gateway. One string. */
  readonly aud: identity_v1.Audience;
  /** The ceiling of the dispatch. */
  readonly scope: identity_v1.ScopeList;
  /** Workspaces and tools, finer than scope (RFC 9396). */
  readonly authorization_details: identity_v1.DetailList;
  /** The key of whoever may present it: the gateway that serves the dispatch. Without a proof by this key the token is refused. */
  readonly cnf: KeyConfirmation;
  /** This token's id, used once. */
  readonly jti: identity_v1.Jti;
  /** The dispatch. */
  readonly dispatch_id: string;
  /** The grant that the chain rests on. */
  readonly grant: identity_v1.GrantId;
  /** How far the input of the dispatch is trusted. */
  readonly input_trust: identity_v1.InputTrust;
  /** SHA-256 of the canonical (RFC 8785) unit.v1 document without token, as it was admitted. Runtime and token cannot diverge. */
  readonly dsh: string;
  /** When it was signed. Unix seconds, as in every JWT. */
  readonly iat: number;
  /** Not before. Unix seconds, as in every JWT. */
  readonly nbf: number;
  /** Not after: at most 900 s after iat, and never after the grant's. Unix seconds, as in every JWT. */
  readonly exp: number;
};

/** The claims of a tool token (typ at+jwt, RFC 9068): one dispatch, one audience, the scope of a call. A bearer token, so it carries no confirmation: whoever asked for one would have to be shown a proof. */
export type ToolClaims = {
  /** The issuer: https://HOST/sts. Each kind of token has its own, so that one cannot pass for another. */
  readonly iss: string;
  /** The person. It never changes along the chain. */
  readonly sub: unit_v1.Subject;
  /** Who acts: the gateway, for the dispatch, for the launcher. */
  readonly act: identity_v1.GatewayActor;
  /** Who asked for the token (RFC 9068, 2.2): the gateway. */
  readonly client_id: identity_v1.SpiffeId;
  /** The launcher, copied from the dispatch token. */
  readonly launcher: unit_v1.Launcher;
  /** The tool's resource URI (RFC 8707), as the operator configured it: one string. */
  readonly aud: identity_v1.Audience;
  /** What is called: part of the dispatch's scope, tool:NAME and nothing else. */
  readonly scope: identity_v1.ScopeList;
  /** The one entry that is used. */
  readonly authorization_details: identity_v1.DetailList;
  /** This token's id, used once. */
  readonly jti: identity_v1.Jti;
  /** The dispatch. */
  readonly dispatch_id: string;
  /** The grant that the chain rests on. */
  readonly grant: identity_v1.GrantId;
  /** The effect's id, under which the audit finds the call. Absent: the exchange was not for one call, such as for reading the server's list of tools. */
  readonly txn?: string;
  /** How far the input of the dispatch is trusted. */
  readonly input_trust: identity_v1.InputTrust;
  /** When it was signed. Unix seconds, as in every JWT. */
  readonly iat: number;
  /** Not before. Unix seconds, as in every JWT. */
  readonly nbf: number;
  /** Not after: at most 120 s after iat, and never after the dispatch token's. Unix seconds, as in every JWT. */
  readonly exp: number;
};

/** The claims of an assertion (typ authorization-grant+jwt): a JWT authorization grant (RFC 7523, section 3) for somebody else's authorization server, which gives its own access token for it. For one call of one tool, taken once. */
export type AssertionClaims = {
  /** The issuer: https://HOST/sts. Each kind of token has its own, so that one cannot pass for another. */
  readonly iss: string;
  /** The person, by the id that they have at that authorization server. */
  readonly sub: string;
  /** Who acts: the gateway, for the dispatch, for the launcher. */
  readonly act: identity_v1.GatewayActor;
  /** The authorization server, by its issuer identifier (RFC 8414): one string. */
  readonly aud: identity_v1.Audience;
  /** This token's id, used once. */
  readonly jti: identity_v1.Jti;
  /** The dispatch. */
  readonly dispatch_id: string;
  /** The effect's id, under which the audit finds the call. Absent: it is not for one call, such as for reading the server's list of tools. */
  readonly txn?: string;
  /** When it was signed. Unix seconds, as in every JWT. */
  readonly iat: number;
  /** Not before. Unix seconds, as in every JWT. */
  readonly nbf: number;
  /** Not after: at most 120 s after iat, and never after the dispatch token's. Unix seconds, as in every JWT. */
  readonly exp: number;
};

/** A key (RFC 7800). */
export type KeyConfirmation = {
  /** The key's JWK thumbprint (RFC 7638). */
  readonly jkt: identity_v1.Thumbprint;
};
