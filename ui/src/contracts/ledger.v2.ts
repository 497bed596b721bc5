// Generated from contracts/ledger.v2/schema.json by scripts/types.mjs. Do not edit.
//! Long because it is one contract.
import type * as agent_runner_v2 from './agent-runner.v2.ts';
import type * as box_v2 from './box.v2.ts';
import type * as grant_v1 from './grant.v1.ts';
import type * as identity_v1 from './identity.v1.ts';
import type * as runtime_v1 from './runtime.v1.ts';
import type * as tool_v1 from './tool.v1.ts';
import type * as unit_v1 from './unit.v1.ts';
import type * as workspace_v1 from './workspace.v1.ts';

/** A dispatch was admitted. */
export type DispatchAdmitted = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Its session. */
  readonly session: SessionId;
  /** What was asked for, without token. */
  readonly unit: unit_v1.InvocationWithoutToken;
  /** Where it was asked for. */
  readonly launch: LaunchRef;
  /** What runs it, pinned by digest. */
  readonly runner: RunnerRef;
  /** What was found of the grant: which one covers this dispatch. not_checked: written before grants existed; a ledger that holds a grant has no such admission after it. */
  readonly grant: "not_checked" | {
    /** The grant that covers it. */
    readonly checked: GrantUse;
  };
  /** What was found of the launch message's signature. absent: this launcher need not sign. */
  readonly signature: "verified" | "absent";
  /** The words of the prompt under the person's key; in the unit (sealed) stands in their place. Absent: the start has no words, or the admission is from before they were sealed, and they stand in the unit. */
  readonly sealed?: Sealed;
};

/** A dispatch was refused. Every attempt is evidence. */
export type DispatchRefused = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Where it was asked for. */
  readonly launch: LaunchRef;
  /** Why, such as LAUNCHER_UNKNOWN. An upper-case code that never changes its meaning. */
  readonly reason: string;
  /** What was wrong, in a sentence. */
  readonly detail: string;
  /** What to do about it. May be empty. */
  readonly hint: string;
};

/** Somebody asked for a dispatch to stop. */
export type DispatchStopRequested = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Who did it. */
  readonly by: By;
  /** Between TERM and KILL, in milliseconds. */
  readonly grace_ms: number;
  /** What the run's end will say. Absent: stopped. revoked: its launcher may not act any more. budget: it used up what it may. */
  readonly reason?: "stopped" | "revoked" | "budget";
};

/** Somebody said more to a dispatch that has not ended, and may. */
export type FollowUpAccepted = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** 1 for its first follow-up; the box gets them in this order. */
  readonly n: number;
  /** Who said it: a launcher or an operator. */
  readonly by: By;
  /** The message it came in. Absent: an operator's command. */
  readonly launch?: LaunchRef;
  /** What was found of the message's signature. Absent: an operator's command. */
  readonly signature?: "verified" | "absent";
  /** SHA-256 of the text as it is kept: sealed with the person's key. From before there were such keys: of the text itself. */
  readonly digest: string;
  /** Size of the text in UTF-8. */
  readonly bytes: number;
  /** Where the text is: a sequence of OUTPUT, on unit.<dispatch>.in. */
  readonly input_seq: number;
};

/** Somebody said more to a dispatch and was refused. */
export type FollowUpRefused = {
  /** The message's own id, which is the entity's: a refusal never stands in another one's history. */
  readonly message: DispatchId;
  /** The dispatch that was meant, when one was named. */
  readonly dispatch?: DispatchId;
  /** Who said it: a launcher or an operator. */
  readonly by: By;
  /** The message it came in. Absent: an operator's command. */
  readonly launch?: LaunchRef;
  /** SHA-256 of the text. */
  readonly digest: string;
  /** Size of the text in UTF-8. */
  readonly bytes: number;
  /** Why, such as LAUNCHER_UNKNOWN. An upper-case code that never changes its meaning. */
  readonly reason: string;
  /** What was wrong, in a sentence. */
  readonly detail: string;
  /** What to do about it. May be empty. */
  readonly hint: string;
};

/** A runtime took a dispatch: no other will run it. */
export type RunClaimed = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Which attempt this is. */
  readonly attempt: Attempt;
  /** The runtime that took it. */
  readonly runtime: Instance;
  /** The image's id. */
  readonly image: string;
  /** The container's name. */
  readonly container_name: string;
  /** SHA-256 of the container's settings, as they were sent to the engine. */
  readonly spec_digest: string;
  /** Its session. */
  readonly session: SessionId;
  /** SHA-256 of the session file it resumes from. Null: a first turn. */
  readonly resume_digest: string | null;
  /** When it must have ended. Unix milliseconds, UTC. */
  readonly deadline_at: number;
  /** Whether its container is a blank one that ran before. Absent: no. */
  readonly warm?: boolean;
  /** The workspaces it mounts, and at which commit. Absent: the claim is of a version before workspaces were repositories, or a bucket did not answer. */
  readonly mounts?: readonly MountBase[];
};

/** The container runs. */
export type RunStarted = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Which attempt this is. */
  readonly attempt: Attempt;
  /** The engine's id of the container. */
  readonly container: ContainerId;
  /** When the engine started it, or when a warm container got its dispatch. Unix milliseconds, UTC. */
  readonly started_at: number;
  /** How long each phase of the start took. */
  readonly phases_ms: { readonly [key: string]: number };
  /** What stands around it, as the engine says it back. */
  readonly in_force?: InForce;
};

/** The run is over: the one last event of a dispatch that ran. */
export type RunFinished = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Which attempt this was. */
  readonly attempt: Attempt;
  /** The engine's id of the container. Absent: there was none. */
  readonly container?: ContainerId;
  /** The container's exit code. Absent: there was none. */
  readonly exit_code?: runtime_v1.ExitCode;
  /** Why it ended. */
  readonly reason: runtime_v1.StopReason;
  /** More, in a sentence. */
  readonly detail?: string;
  /** When it started. Absent: it did not. Unix milliseconds, UTC. */
  readonly started_at?: number;
  /** When it ended. Unix milliseconds, UTC. */
  readonly finished_at: number;
  /** The session file it left. Absent: none. */
  readonly session?: SessionFile;
  /** Where its output is, and what it was. */
  readonly output: OutputRef;
  /** What it used. */
  readonly usage: Usage;
  /** The agent's own id for its session. */
  readonly agent_session?: box_v2.AgentSession;
  /** Its time was up and its session file is kept: a later turn of the session resumes it. Absent: no. */
  readonly parked?: true;
  /** Turns that the box took, follow-ups among them. Absent: it was not counted. */
  readonly turns?: number;
  /** What the start's phases do not know yet: to the first frame, and from there to the first one that the agent caused. */
  readonly phases_ms?: { readonly [key: string]: number };
  /** What became of its changes, by workspace; the last may be the person's own system workspace, which keeps the session file. */
  readonly commits?: readonly RunCommit[];
};

/** A model was called for a dispatch. */
export type ModelCalled = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** The call's number within the dispatch, from 1. */
  readonly n: number;
  /** The wire format that the agent spoke. */
  readonly api: "openai-chat" | "anthropic" | "openai-responses";
  /** The upstream's configured name. Never an address, never a key. */
  readonly upstream: string;
  /** The model that was asked for, as the agent named it. */
  readonly model: string;
  /** SHA-256 of the request's body. */
  readonly request_digest: string;
  /** SHA-256 of the response's body as it was passed on; of nothing when there was none. */
  readonly response_digest: string;
  /** The upstream's HTTP status. 0: no answer came. */
  readonly status: number;
  /** Whether an answer came whole. */
  readonly outcome: "succeeded" | "failed";
  /** What went wrong. */
  readonly detail?: string;
  /** Tokens sent, as the upstream counts. */
  readonly input_tokens: number;
  /** Tokens received, as the upstream counts. */
  readonly output_tokens: number;
  /** From the request to the response's last byte, in milliseconds. */
  readonly duration_ms: number;
  /** Of the tokens sent, those that the upstream had cached. */
  readonly cached_tokens?: number;
  /** What it cost by the configured prices, in millionths of the accounting currency. Absent: there are no prices. */
  readonly cost_micros?: number;
  /** How often the upstream was asked. 1: the first answer stood. 0: the answer came from a recording. */
  readonly attempts?: number;
  /** Who runs the upstream, as OpenTelemetry's gen_ai.provider.name says it. */
  readonly provider?: string;
  /** The model that answered, as the upstream named it (gen_ai.response.model). */
  readonly response_model?: string;
};

/** A launcher was registered. */
export type LauncherRegistered = {
  /** The launcher. */
  readonly launcher: LauncherId;
  /** Its key. */
  readonly public_key: Nkey;
  /** What people call it. */
  readonly name: string;
  /** required: a message without a good signature is refused. optional: a signature is checked when there is one. */
  readonly signature: "required" | "optional";
  /** Persons it may act for until grants exist; * is everybody. */
  readonly subjects: readonly string[];
  /** Who did it. */
  readonly by: By;
};

/** A launcher got a new key. The old one is refused from here on. */
export type LauncherRotated = {
  /** The launcher. */
  readonly launcher: LauncherId;
  /** Its new key. */
  readonly public_key: Nkey;
  /** Who did it. */
  readonly by: By;
};

/** A launcher was disabled. */
export type LauncherDisabled = {
  /** The launcher. */
  readonly launcher: LauncherId;
  /** Who did it. */
  readonly by: By;
  /** Why. */
  readonly why: string;
};

/** A role's signing key was introduced. The first one of a ledger is the authority's own. */
export type KeyIntroduced = {
  /** The key's id. */
  readonly kid: KeyId;
  /** The role it signs for. */
  readonly role: "api" | "authority" | "runtime" | "gateway" | "scheduler" | "projector";
  /** The Ed25519 public key, in lower-case hexadecimal. */
  readonly public_key: string;
  /** The instance that holds the other half. */
  readonly instance: Instance;
};

/** A key signs nothing after this. */
export type KeyRetired = {
  /** The key's id. */
  readonly kid: KeyId;
  /** Why. */
  readonly why: string;
};

/** The tree over the first messages of the ledger was signed. */
export type CheckpointSigned = {
  /** The log's name, as C2SP checkpoints have it. */
  readonly origin: string;
  /** How many leaves the tree has. */
  readonly size: number;
  /** The root hash (RFC 6962), in standard base64. */
  readonly root: string;
  /** The whole C2SP signed note: text, an empty line, signatures. */
  readonly note: string;
};

/** A tool call was allowed and is about to be made. Written before anything happens. */
export type ToolIntended = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** The call's number among the dispatch's tool calls, from 1. Refused ones count too. */
  readonly n: number;
  /** Which tool. */
  readonly tool: unit_v1.ToolName;
  /** The scope that the call uses. */
  readonly scope: tool_v1.Scope;
  /** read: changes nothing. write: can be undone. irreversible: cannot. */
  readonly effect: "read" | "write" | "irreversible";
  /** SHA-256 of the canonical arguments as they are kept. Their bytes are args, or the blob of that name. */
  readonly args_digest: string;
  /** What has that digest, in base64url without padding. Absent where it is a blob. */
  readonly args?: string;
  /** How far the input of the dispatch is trusted. */
  readonly input_trust: identity_v1.InputTrust;
  /** The key under which the same call is never two effects. */
  readonly idempotency_key: string;
  /** Which policy let it through, and by which of its rules. */
  readonly policy?: RuledBy;
  /** SHA-256 of the tool as it was offered: its document, and the definition of it that was accepted. */
  readonly tool_digest?: string;
  /** The approval that it rests on. Absent for a call that needed none. */
  readonly approval?: ApprovedBy;
};

/** The outcome of a tool call. Written before the agent is answered. */
export type ToolFinished = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** The call's number among the dispatch's tool calls, from 1. Refused ones count too. */
  readonly n: number;
  /** succeeded, failed: the outcome is known. in_doubt: it is not, and the call is not repeated. */
  readonly phase: "succeeded" | "failed" | "in_doubt";
  /** Why, unless it succeeded. A code that never changes its meaning. */
  readonly reason?: string;
  /** SHA-256 of the answer that the agent got, as it is kept. Its bytes are result, or the blob of that name. */
  readonly result_digest?: string;
  /** What has that digest, in base64url without padding. Absent where it is a blob. */
  readonly result?: string;
  /** Size of that answer. */
  readonly result_bytes?: number;
  /** Milliseconds from the intent to the outcome. */
  readonly duration_ms: number;
};

/** A tool call was refused, or a run of calls was. Nothing happened. */
export type ToolRefused = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** The call's number among the dispatch's tool calls, from 1. Refused ones count too. */
  readonly n: number;
  /** Which tool. */
  readonly tool?: unit_v1.ToolName;
  /** SHA-256 of the canonical arguments, when they could be read. */
  readonly args_digest?: string;
  /** Why. A code that never changes its meaning. */
  readonly reason: string;
  /** What was wrong, in a sentence. */
  readonly detail: string;
  /** How many calls this stands for. More than one only for calls beyond the rate. */
  readonly count: number;
  /** Which policy refused it, and by which of its rules. Absent for what no policy was asked about. */
  readonly policy?: RuledBy;
};

/** A tool call waits for a person. Written before the agent is told so; nothing has happened. */
export type ToolAwaiting = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** The call's number among the dispatch's tool calls, from 1. Refused ones count too. */
  readonly n: number;
  /** Which tool. */
  readonly tool: unit_v1.ToolName;
  /** The scope that the call would use. */
  readonly scope: tool_v1.Scope;
  /** read: changes nothing. write: can be undone. irreversible: cannot. */
  readonly effect: "read" | "write" | "irreversible";
  /** SHA-256 of the canonical arguments. Their bytes are the blob of that name. */
  readonly args_digest: string;
  /** Size of the canonical arguments. */
  readonly args_bytes: number;
  /** How far the input of the dispatch is trusted. */
  readonly input_trust: identity_v1.InputTrust;
  /** The key under which the same call is never two effects. */
  readonly idempotency_key: string;
  /** The rule that asks for a person. */
  readonly policy: RuledBy;
  /** SHA-256 of the tool as it is offered. */
  readonly tool_digest: string;
  /** Who may decide. */
  readonly approvers: readonly unit_v1.Subject[];
  /** After this moment it can no longer be approved, and what was approved is no longer begun. Milliseconds since the Unix epoch. */
  readonly expires_at: number;
};

/** A person decided about one version of a card. Taken once for each version. */
export type ApprovalDecided = {
  /** The card's id: the dispatch's, -t, and the call's number. */
  readonly card: string;
  /** The dispatch whose call it is. */
  readonly dispatch: DispatchId;
  /** Which version was on the screen: 1, and one more for each edit. */
  readonly version: number;
  /** approve: do exactly what was shown. edit: replace it by the next version, which waits in its turn. reject: never. defer: ask again later. */
  readonly decision: "approve" | "edit" | "reject" | "defer";
  /** Who decided. */
  readonly by: unit_v1.Subject;
  /** SHA-256 of the arguments: those that were shown, for an approval; those of the next version, for an edit. */
  readonly args_digest?: string;
  /** Why, for a rejection. */
  readonly reason?: string;
  /** When to ask again, for a deferral. Milliseconds since the Unix epoch. */
  readonly until?: number;
};

/** Nobody decided in time. The call will never be made. */
export type ApprovalExpired = {
  /** The card's id: the dispatch's, -t, and the call's number. */
  readonly card: string;
  /** The dispatch whose call it is. */
  readonly dispatch: DispatchId;
  /** The version that waited. */
  readonly version: number;
  /** When its time was up. Milliseconds since the Unix epoch. */
  readonly expired_at: number;
};

/** The approval that an intent rests on. */
export type ApprovedBy = {
  /** The ledger sequence of the decision. */
  readonly seq: number;
  /** The version that was approved. */
  readonly version: number;
  /** Who approved. */
  readonly by: unit_v1.Subject;
};

/** What a policy said, and which rule of it. */
export type RuledBy = {
  /** SHA-256 of the policy's text. */
  readonly digest: string;
  /** The rule's id. */
  readonly rule: string;
};

/** A budget is nearly used up. */
export type BudgetWarned = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Whose budget: the dispatch's own, the person's, the launcher's. */
  readonly scope: "dispatch" | "subject" | "launcher";
  /** What it counts: tokens sent and received, or millionths of the accounting currency. */
  readonly measure: "tokens" | "cost_micros";
  /** How much is used. */
  readonly used: number;
  /** How much there is. */
  readonly limit: number;
  /** Length of the window that a person's or launcher's budget counts in, in milliseconds. */
  readonly window_ms?: number;
};

/** A budget is used up. The dispatch ends. */
export type BudgetExhausted = {
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** Whose budget: the dispatch's own, the person's, the launcher's. */
  readonly scope: "dispatch" | "subject" | "launcher";
  /** What it counts: tokens sent and received, or millionths of the accounting currency. */
  readonly measure: "tokens" | "cost_micros";
  /** How much is used. */
  readonly used: number;
  /** How much there is. */
  readonly limit: number;
  /** Length of the window that a person's or launcher's budget counts in, in milliseconds. */
  readonly window_ms?: number;
};

/** A workspace was registered, or its people, its purpose or its mode changed. Its bucket, its trunk and its encryption never change by this. */
export type WorkspaceRegistered = {
  /** Its document. */
  readonly workspace: workspace_v1.Workspace;
  /** The person whose it is; * is everybody of this installation. */
  readonly owner: string;
  /** Who else may mount it, and how far. */
  readonly members?: readonly WorkspaceMember[];
  /** Who did it. */
  readonly by: By;
};

/** A workspace was stored anew for other recipients. What is stored from here on opens with their keys alone. */
export type WorkspaceKeyRotated = {
  /** The workspace. */
  readonly workspace: unit_v1.WorkspaceId;
  /** The age public keys from here on. */
  readonly recipients: readonly string[];
  /** Who did it. */
  readonly by: By;
};

/** A person put files into a workspace without a dispatch. */
export type WorkspaceImported = {
  /** The workspace. */
  readonly workspace: unit_v1.WorkspaceId;
  /** The commit before. */
  readonly base: string;
  /** The commit that holds them. */
  readonly commit: string;
  /** Who did it. */
  readonly by: By;
};

/** A run's changes wait for the owner of the workspace. */
export type WorkspaceProposalOpened = {
  /** The workspace. */
  readonly workspace: unit_v1.WorkspaceId;
  /** The proposal: the dispatch whose changes they are. */
  readonly proposal: DispatchId;
  /** The person they are by. */
  readonly subject: unit_v1.Subject;
  /** The commit they were made on. */
  readonly base: string;
  /** The commit that holds them. */
  readonly commit: string;
  /** Why they did not land, when they were meant to; a stable code stands first. */
  readonly reason?: string;
};

/** The owner said yes to a proposal; it is being merged. */
export type WorkspaceProposalAccepted = {
  /** The workspace. */
  readonly workspace: unit_v1.WorkspaceId;
  /** The proposal: the dispatch whose changes they are. */
  readonly proposal: DispatchId;
  /** Who did it. */
  readonly by: By;
};

/** The changes of a proposal are in the trunk. */
export type WorkspaceProposalLanded = {
  /** The workspace. */
  readonly workspace: unit_v1.WorkspaceId;
  /** The proposal: the dispatch whose changes they are. */
  readonly proposal: DispatchId;
  /** The trunk's commit that holds them. */
  readonly commit: string;
  /** Who did it. */
  readonly by: By;
};

/** The owner said no to a proposal. */
export type WorkspaceProposalRejected = {
  /** The workspace. */
  readonly workspace: unit_v1.WorkspaceId;
  /** The proposal: the dispatch whose changes they are. */
  readonly proposal: DispatchId;
  /** Who did it. */
  readonly by: By;
  /** Why. */
  readonly why: string;
};

/** Somebody asked a person for a grant. It lets nobody do anything. */
export type GrantRequested = {
  /** What is asked for. */
  readonly wanted: GrantTerms;
  /** Who asks. */
  readonly by: By;
  /** Why. */
  readonly why: string;
};

/** A person gave a launcher a grant. */
export type GrantIssued = {
  /** The grant that the person agreed to. */
  readonly grant: grant_v1.Grant;
  /** The same as a signed token: compact JWS, typ grant+jwt, identity.v1 Grant claims, EdDSA by authority's key. */
  readonly token: string;
  /** The words that were shown and agreed to; consent.statement_digest is over exactly these. */
  readonly statement: string;
  /** The grant that justifies it: this one is narrower or equal in every respect, has its consent and ends with it. */
  readonly parent?: GrantId;
  /** Who asked authority to issue it. */
  readonly by: By;
};

/** A grant was refused. Nothing may be done under it. */
export type GrantRefused = {
  /** What was asked for. */
  readonly wanted: GrantTerms;
  /** The grant that was to justify it. */
  readonly parent?: GrantId;
  /** Why, such as GRANT_WIDER. An upper-case code that never changes its meaning. */
  readonly reason: string;
  /** What was wrong, in a sentence. */
  readonly detail: string;
  /** What to do about it. May be empty. */
  readonly hint: string;
  /** Who asked. */
  readonly by: By;
};

/** A grant was taken back. Nothing is admitted under it or under its children from here on, and what runs is ended. */
export type GrantRevoked = {
  /** Which grant. */
  readonly grant: GrantId;
  /** Who did it. */
  readonly by: By;
  /** Why. */
  readonly why: string;
};

/** A key that signs tokens, and nothing else, came into another state. The first one of a key introduces it. */
export type TokenKeyChanged = {
  /** The key's id: token- and the first 16 digits of the SHA-256 of its public half. */
  readonly kid: KeyId;
  /** next: published, signs nothing yet. active: signs. retiring: signs nothing more, what it signed stays good until its end. retired: nothing that it signed is good. */
  readonly state: "next" | "active" | "retiring" | "retired";
  /** The Ed25519 public key, in lower-case hexadecimal. It never changes. */
  readonly public_key: string;
  /** Who did it. */
  readonly by: By;
  /** Why. */
  readonly why: string;
};

/** A token was signed. The token itself stands nowhere. */
export type TokenIssued = {
  /** The token's id, which is also the entity's. A function of the proof that it was asked with: the same proof is never two tokens. */
  readonly jti: string;
  /** Which kind of token: of a dispatch to its gateway, of a call to a tool's server, or of a call to somebody else's authorization server. */
  readonly typ: "dispatch+jwt" | "at+jwt" | "authorization-grant+jwt";
  /** The key that signed it. */
  readonly kid: KeyId;
  /** The dispatch. */
  readonly dispatch: DispatchId;
  /** The grant that it rests on. */
  readonly grant: GrantId;
  /** For whom: one string. */
  readonly aud: identity_v1.Audience;
  /** What it allows. */
  readonly scope: identity_v1.ScopeList;
  /** SHA-256 of its canonical claims (token.v1). Whoever holds the token can show that it is this one. */
  readonly claims_digest: string;
  /** When it ends. Unix milliseconds, UTC. */
  readonly expires_at: number;
  /** The key of whoever asked for it. */
  readonly actor: KeyId;
  /** The id of the dispatch token that was exchanged for it. Absent: it is a dispatch token itself. */
  readonly from?: string;
  /** The effect that it is for. Absent: it is not for one call. */
  readonly txn?: string;
};

/** A token was asked for and not signed. */
export type TokenRefused = {
  /** The entity's id: made of what was asked and when. */
  readonly id: string;
  /** The dispatch, when a proof that is good named one. */
  readonly dispatch?: DispatchId;
  /** For whom it was asked. */
  readonly aud?: identity_v1.Audience;
  /** Why, such as TOKEN_EXPIRED. An upper-case code that never changes its meaning. */
  readonly reason: string;
  /** What was wrong, in a sentence. */
  readonly detail: string;
  /** The key of whoever asked, when their proof is good. */
  readonly actor?: KeyId;
  /** How many refusals this stands for: more than one when they came faster than they are written down. */
  readonly count: number;
};

/** The key that a person's content is sealed with came into another state. Its first use is no event: a person of whom nothing stands here has a key as soon as there is something to seal. */
export type SubjectKeyChanged = {
  /** The person. */
  readonly subject: unit_v1.Subject;
  /** erasing: it is to be destroyed; from here on nothing of the person's is taken. erased: it is destroyed, and what was sealed with it is no more than noise. active: the person is taken in again, with another key. */
  readonly state: "erasing" | "erased" | "active";
  /** The key's id. Absent: there was none to destroy. */
  readonly key?: SubjectKeyId;
  /** Who asked for it. */
  readonly by: By;
  /** Why, in words that hold nothing of the person's. */
  readonly why: string;
};

/** Words under a person's key: here, or in a blob when they are many. */
export type Sealed = {
  /** The key's id. */
  readonly key: SubjectKeyId;
  /** How: the nonce of 24 bytes is an HMAC-SHA256 of the words under the same key, so that the same words in the same place are the same bytes. */
  readonly alg: "XChaCha20-Poly1305";
  /** Nonce and ciphertext, in base64url without padding. */
  readonly text?: string;
  /** The blob that holds them, sealed. */
  readonly blob?: string;
};

/** The id of a person's key: sk- and 16 random hexadecimal digits. It says nothing of the person. */
export type SubjectKeyId = string;

/** A dispatch's id. */
export type DispatchId = string;

/** A session's id. */
export type SessionId = string;

/** A launcher's id: the token in launch.<launcher>.<verb>. */
export type LauncherId = string;

/** A person or an operator's tool, such as u_jane or operator:cli. */
export type By = string;

/** An instance of a role. */
export type Instance = string;

/** A key's id. */
export type KeyId = string;

/** The public half of a NATS user nkey: U and 55 characters. */
export type Nkey = string;

/** An attempt at a dispatch, from 1. */
export type Attempt = number;

/** A container's id. */
export type ContainerId = string;

/** The launch message that this answers. */
export type LaunchRef = {
  /** Its sequence in the LAUNCH stream. */
  readonly stream_seq: number;
  /** Who published it, as the account boundary says it. */
  readonly launcher: LauncherId;
  /** Its CloudEvents id. Null: it could not be read. */
  readonly event_id: string | null;
  /** SHA-256 of its stored bytes. */
  readonly digest: string;
  /** When LAUNCH stored it. Unix milliseconds, UTC. */
  readonly stored_at?: number;
};

/** A runner, pinned. */
export type RunnerRef = {
  /** Its name. */
  readonly name: unit_v1.RunnerName;
  /** Its version. */
  readonly version: string;
  /** Its image's id. */
  readonly image: string;
  /** Whether its boxes may make TCP sockets on their loopback device. Absent: no. */
  readonly loopback?: boolean;
  /** The least isolation that it asks for. Absent: standard. */
  readonly isolation?: "standard" | "userns" | "gvisor" | "kata";
  /** What its sessions are made of. Absent: one file. */
  readonly session_kind?: "file" | "directory";
  /** The least that its box must offer. */
  readonly resources?: agent_runner_v2.Resources;
};

/** A session file as it was at the end. */
export type SessionFile = {
  /** The session. */
  readonly id: SessionId;
  /** SHA-256 of the file; the blob of that name holds it. */
  readonly digest: string;
  /** Its size in bytes. */
  readonly bytes: number;
};

/** Output, by place, size and digest. */
export type OutputRef = {
  /** Where it was streamed. */
  readonly subject: string;
  /** How many frames. */
  readonly frames: number;
  /** How many bytes the frames had as they were stored. */
  readonly bytes: number;
  /** SHA-256 over the stored frames, in order. */
  readonly digest: string;
  /** True: the end was dropped because of the limit. */
  readonly truncated: boolean;
};

/** What a run used. */
export type Usage = {
  /** From start to end, in milliseconds. */
  readonly wall_ms: number;
  /** Tokens sent to models. */
  readonly input_tokens: number;
  /** Tokens received from models. */
  readonly output_tokens: number;
  /** Calls of models. */
  readonly model_calls: number;
};

/** The profile of one container, as it was set and read back. */
export type InForce = {
  /** Whether it is a blank container that ran before its dispatch was known. */
  readonly warm: boolean;
  /** Which sockets it may make. */
  readonly sockets: "unix" | "loopback" | "watched";
  /** SHA-256 of its seccomp profile. */
  readonly seccomp_digest: string;
  /** Its class. */
  readonly isolation: "standard" | "userns" | "gvisor" | "kata";
  /** The engine's runtime that made it. Empty: the engine does not say. */
  readonly oci_runtime: string;
  /** Whether it has user ids of its own. */
  readonly userns: boolean;
  /** Which control groups hold its limits. */
  readonly cgroup_version: "1" | "2" | "unknown";
  /** Bytes of memory, with no swap. 0: none is set. */
  readonly memory_bytes: number;
  /** Billionths of a processor. 0: none is set. */
  readonly nano_cpus: number;
  /** Processes. 0: none is set. */
  readonly pids: number;
};

/** Somebody who may mount a workspace. */
export type WorkspaceMember = {
  /** The person; * is everybody. */
  readonly subject: string;
  /** The most that they may have. */
  readonly mode: unit_v1.Mode;
};

/** A workspace as a run mounts it. */
export type MountBase = {
  /** The workspace. */
  readonly workspace: unit_v1.WorkspaceId;
  /** How. */
  readonly mode: unit_v1.Mode;
  /** The commit whose files are mounted. */
  readonly base: string;
};

/** What became of a run's changes in one workspace. */
export type RunCommit = {
  /** The workspace. */
  readonly workspace: unit_v1.WorkspaceId;
  /** How it was mounted. */
  readonly mode: unit_v1.Mode;
  /** The commit they were made on. */
  readonly base: string;
  /** The commit that holds them. Absent: none does. */
  readonly commit?: string;
  /** unchanged: there were none. landed: in the trunk, on their base. merged: in the trunk, with what landed meanwhile. proposed: they wait for the owner. refused: they were not kept. */
  readonly outcome: "unchanged" | "landed" | "merged" | "proposed" | "refused";
  /** Why not otherwise; a stable code stands first. */
  readonly reason?: string;
  /** SHA-256 over the list of everything in the commit's tree. */
  readonly tree?: string;
};

/** A grant as it stood when a dispatch was admitted under it. */
export type GrantUse = {
  /** Which grant. */
  readonly id: GrantId;
  /** The ledger sequence at which it was issued. */
  readonly seq: number;
};

/** A grant's id. */
export type GrantId = string;

/** A grant.v1 before the subject agreed: everything but the consent. */
export type GrantTerms = {
  /** The id that the grant will have. */
  readonly id: GrantId;
  /** Who would grant. */
  readonly subject: unit_v1.Subject;
  /** To whom. */
  readonly launcher: unit_v1.Launcher;
  /** The launcher's public key, an nkey of a user. */
  readonly launcher_key: Nkey;
  /** Tools that a dispatch may ask for. Empty: none. */
  readonly tools: readonly unit_v1.ToolName[];
  /** Workspaces and the most that may be done in each. */
  readonly workspaces: readonly unit_v1.WorkspaceMount[];
  /** What may start a dispatch under it. */
  readonly trigger: grant_v1.TriggerPattern;
  /** What the arguments of calls must satisfy, on top of the tool's own constraints. */
  readonly constraints: readonly tool_v1.Constraint[];
  /** How much. */
  readonly limits: grant_v1.GrantLimits;
  /** When a person must say yes to a call. */
  readonly approval: grant_v1.ApprovalRule;
  /** Not before this moment. RFC 3339, with a zone. */
  readonly not_before: string;
  /** Not after this moment: at most 90 days later. RFC 3339, with a zone. */
  readonly expires: string;
};
