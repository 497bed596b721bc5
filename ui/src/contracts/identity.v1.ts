// Generated from contracts/identity.v1/schema.json by scripts/types.mjs. Do not edit.
import type * as tool_v1 from './tool.v1.ts';
import type * as unit_v1 from './unit.v1.ts';

/** The claims of a delegation grant (typ grant+jwt): may this launcher ever act for this person, and within which ceiling? */
export type Grant = {
  /** The issuer, such as https://HOST/identity/grant. Each kind of token has its own, so that one cannot pass for another. */
  readonly iss: string;
  /** The person. It never changes along the chain. */
  readonly sub: unit_v1.Subject;
  /** The launcher that may present it. */
  readonly launcher: unit_v1.Launcher;
  /** Who may act for the person, and with which key. */
  readonly may_act: MayAct;
  /** The authority that may accept it: one string. */
  readonly aud: Audience;
  /** The ceiling of every dispatch under it. */
  readonly scope: ScopeList;
  /** The same ceiling, finer (RFC 9396). */
  readonly authorization_details: DetailList;
  /** This token's id, used once. */
  readonly jti: Jti;
  /** The grant that the chain rests on. */
  readonly grant: GrantId;
  /** SHA-256 of the canonical (RFC 8785) grant.v1 document that the person saw. Token and document cannot diverge. */
  readonly gsh: string;
  /** When it was signed. Unix seconds, as in every JWT. */
  readonly iat: number;
  /** Not before. Unix seconds, as in every JWT. */
  readonly nbf: number;
  /** Not after: 90 days at most after iat, revocable before. Unix seconds, as in every JWT. */
  readonly exp: number;
};

/** The claims of a dispatch token (typ dispatch+jwt): what may this one box do? */
export type DispatchClaims = {
  /** The issuer, such as https://HOST/identity. Each kind of token has its own, so that one cannot pass for another. */
  readonly iss: string;
  /** The person. It never changes along the chain. */
  readonly sub: unit_v1.Subject;
  /** Who acts: the dispatch, for the launcher. */
  readonly act: DispatchActor;
  /** The launcher again, because policy may read only the top level (RFC 8693, 4.1). */
  readonly launcher: unit_v1.Launcher;
  /** The gateway: one string. */
  readonly aud: Audience;
  /** The ceiling of the dispatch. */
  readonly scope: ScopeList;
  /** Workspaces and tools, finer than scope (RFC 9396). */
  readonly authorization_details: DetailList;
  /** The certificate of whoever may present it. */
  readonly cnf: Confirmation;
  /** This token's id, used once. */
  readonly jti: Jti;
  /** The dispatch. */
  readonly dispatch_id: string;
  /** The grant that the chain rests on. */
  readonly grant: GrantId;
  /** How far the input of the dispatch is trusted. */
  readonly input_trust: InputTrust;
  /** SHA-256 of the canonical (RFC 8785) unit.v1 document without token. Runtime and token cannot diverge. */
  readonly dsh: string;
  /** When it was signed. Unix seconds, as in every JWT. */
  readonly iat: number;
  /** Not before. Unix seconds, as in every JWT. */
  readonly nbf: number;
  /** Not after: at most 900 s after iat, and never after the grant's. Unix seconds, as in every JWT. */
  readonly exp: number;
};

/** The claims of a tool token (typ at+jwt, RFC 9068): one call surface, one audience. */
export type ToolClaims = {
  /** The issuer, such as https://HOST/sts. Each kind of token has its own, so that one cannot pass for another. */
  readonly iss: string;
  /** The person. It never changes along the chain. */
  readonly sub: unit_v1.Subject;
  /** Who acts: the gateway, for the dispatch, for the launcher. */
  readonly act: GatewayActor;
  /** The launcher, copied from the dispatch token. */
  readonly launcher: unit_v1.Launcher;
  /** The tool's resource URI (RFC 8707): one string. */
  readonly aud: Audience;
  /** What this call needs: part of the dispatch's scope. */
  readonly scope: ScopeList;
  /** The one entry that is used. */
  readonly authorization_details: DetailList;
  /** The certificate of the gateway, which presents it. */
  readonly cnf: Confirmation;
  /** This token's id, used once. */
  readonly jti: Jti;
  /** The dispatch. */
  readonly dispatch_id: string;
  /** The grant that the chain rests on. */
  readonly grant: GrantId;
  /** The effect's id: the key under which the audit finds the call. */
  readonly txn: string;
  /** How far the input of the dispatch is trusted. */
  readonly input_trust: InputTrust;
  /** When it was signed. Unix seconds, as in every JWT. */
  readonly iat: number;
  /** Not before. Unix seconds, as in every JWT. */
  readonly nbf: number;
  /** Not after: at most 120 s after iat, and never after the dispatch token's. Unix seconds, as in every JWT. */
  readonly exp: number;
};

/** One decision at one boundary. */
export type AccessDecision = {
  /** True: a permit was given. */
  readonly allow: boolean;
  /** The person in whose name it was asked. */
  readonly subject: unit_v1.Subject;
  /** The launcher behind it. */
  readonly launcher: unit_v1.Launcher;
  /** What kind of thing was asked for, such as tool, workspace, dispatch or transcript. */
  readonly resource_kind: string;
  /** Which one. */
  readonly resource_id: string;
  /** What was to be done with it, such as read, write or call. */
  readonly action: string;
  /** Why, for a permit as for a refusal, such as GRANT_EXPIRED. An upper-case code that never changes its meaning. */
  readonly reason: string;
  /** The ledger sequence of the grant as it stood when this was decided. Null: no grant was found. */
  readonly grant_seq: number | null;
};

/** Exactly one audience, as one string. A list is refused, also a list of one. */
export type Audience = string;

/** Scopes with one space between them (RFC 6749, 3.3). */
export type ScopeList = string;

/** Rich authorization details (RFC 9396). */
export type DetailList = readonly Detail[];

/** One authorization detail. */
export type Detail = WorkspaceDetail | McpDetail;

/** Access to one workspace. */
export type WorkspaceDetail = {
  /** The kind of detail. */
  readonly type: "workspace";
  /** Which workspace. */
  readonly id: unit_v1.WorkspaceId;
  /** The most that may be done. */
  readonly mode: unit_v1.Mode;
};

/** Calls to tools of one server. */
export type McpDetail = {
  /** The kind of detail. */
  readonly type: "mcp";
  /** Which upstream server, or builtin. */
  readonly server: string;
  /** Which of its tools. */
  readonly tools: readonly unit_v1.ToolName[];
  /** What the arguments must satisfy. */
  readonly args?: readonly tool_v1.Constraint[];
};

/** The token's id, used once. */
export type Jti = string;

/** The grant that the chain rests on. */
export type GrantId = string;

/** Derived from the trigger. untrusted input can only propose what cannot be undone. */
export type InputTrust = "trusted" | "untrusted";

/** The actor that a grant names (RFC 8693, 4.4). */
export type MayAct = {
  /** The launcher. */
  readonly sub: unit_v1.Launcher;
  /** The launcher's key. */
  readonly cnf: {
    /** The key's JWK thumbprint (RFC 7638). */
    readonly jkt: Thumbprint;
  };
};

/** A SHA-256 digest, base64url without padding. */
export type Thumbprint = string;

/** The presenter's certificate, twice: policy engines differ in what they can compare. */
export type Confirmation = {
  /** Digest of the certificate (RFC 8705). */
  readonly "x5t#S256": Thumbprint;
  /** The same digest in lower-case hexadecimal. */
  readonly hex: string;
};

/** The dispatch, acting for the launcher. */
export type DispatchActor = {
  /** The dispatch: spiffe://<trust domain>/dispatch/<id>. */
  readonly sub: SpiffeId;
  /** The launcher. */
  readonly act: LauncherActor;
};

/** The gateway, acting for the dispatch, acting for the launcher. Newest outermost (RFC 8693, 4.1). */
export type GatewayActor = {
  /** The gateway: spiffe://<trust domain>/gateway. */
  readonly sub: SpiffeId;
  /** The dispatch and the launcher. */
  readonly act: DispatchActor;
};

/** The launcher. */
export type LauncherActor = {
  /** The launcher's id. */
  readonly sub: unit_v1.Launcher;
};

/** A SPIFFE id. */
export type SpiffeId = string;
