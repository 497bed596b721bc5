{{- define "custody.labels" -}}
app.kubernetes.io/name: custody
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "custody.image" -}}
{{- $repository := required "image.repository: where the image of custody is" .Values.image.repository -}}
{{- $digest := required "image.digest: its digest, sha256:…; a tag is not enough" .Values.image.digest -}}
{{ $repository }}@{{ $digest }}
{{- end }}

{{- define "custody.natsUrl" -}}
{{- if .Values.nats.enabled -}}
nats://{{ .Release.Name }}-nats:4222
{{- else -}}
{{ required "nats.url: the outside server, since nats.enabled is false" .Values.nats.url }}
{{- end -}}
{{- end }}

{{- /* What every container of ours may be: nothing but a process. */ -}}
{{- define "custody.security" -}}
allowPrivilegeEscalation: false
capabilities: { drop: [ALL] }
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65530
runAsGroup: 65530
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "custody.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  fsGroup: 65530
  # Else each mount would make the identity of the keys of persons readable for the group, and it would be refused.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- /* The configuration of one role: only what this role must know. Call with root and role. */ -}}
{{- define "custody.config" -}}
{{- $root := .root -}}
[nats]
url = {{ include "custody.natsUrl" $root | quote }}
credentials = "/etc/custody/users"
assume_sync_always = {{ or $root.Values.nats.enabled $root.Values.nats.assumeSyncAlways }}

[runners]
folder = "/etc/custody/runners"

[subjects]
folder = "/var/lib/custody-subjects/keys"
identity = "/var/lib/custody-subjects/identity.age"
{{- if $root.Values.metrics.enabled }}

[telemetry]
metrics_listen = "0.0.0.0:{{ .metrics }}"
{{- if $root.Values.traces.endpoint }}
otlp_endpoint = {{ $root.Values.traces.endpoint | quote }}
{{- end }}
{{- end }}
{{- if eq .role "runtime" }}

[runtime]
backend = "kubernetes"
running_max = {{ $root.Values.runtime.runningMax }}
{{- include "custody.limits" $root }}

[runtime.kubernetes]
namespace = {{ $root.Values.boxes.namespace | quote }}
service_account = "custody-box"
seccomp_profile = {{ $root.Values.boxes.seccomp.profile | quote }}
network_policy = "custody-boxes"
data_claim = "custody-data"
data_root = "/var/lib/custody"
{{- with $root.Values.boxes.runtimeClassName }}
runtime_class = {{ . | quote }}
{{- end }}
user_namespaces = {{ $root.Values.boxes.userNamespaces }}
link_image = {{ include "custody.image" $root | quote }}
link_connect = "{{ $root.Release.Name }}-gateway.{{ $root.Release.Namespace }}.svc:{{ $root.Values.link.port }}"
link_server_name = {{ $root.Values.link.serverName | quote }}
link_ca_secret = "custody-link-ca"

[runtime.kubernetes.images]
{{- range $id, $reference := $root.Values.runners.images }}
{{ $id | quote }} = {{ $reference | quote }}
{{- end }}
{{- if $root.Values.runtime.http.enabled }}

[runtime.http]
listen = "0.0.0.0:{{ $root.Values.runtime.http.port }}"
{{- end }}
{{- end }}
{{- if eq .role "api" }}

[http]
listen = "0.0.0.0:{{ $root.Values.api.port }}"
origins = {{ toJson $root.Values.api.origins }}
{{- end }}
{{- if eq .role "gateway" }}

[runtime]
{{- include "custody.limits" $root }}

[gateway]
link_listen = "0.0.0.0:{{ $root.Values.link.port }}"
link_certificate = "/etc/custody/link/tls.crt"
link_key = "/etc/custody/link/tls.key"
{{- with $root.Values.gateway.model }}

[model]
{{- range $key, $value := . }}
{{ $key }} = {{ if kindIs "string" $value }}{{ $value | quote }}{{ else }}{{ $value }}{{ end }}
{{- end }}
api_key_file = "/etc/custody/secret/model"
{{- end }}
{{- end }}
{{- end }}

{{- define "custody.limits" -}}
{{- range $key, $value := .Values.runtime.limits }}
{{- if kindIs "float64" $value }}
{{ $key }} = {{ if eq $key "cpus" }}{{ printf "%.3f" $value }}{{ else }}{{ printf "%.0f" $value }}{{ end }}
{{- else }}
{{ $key }} = {{ $value }}
{{- end }}
{{- end }}
{{- end }}

{{- /* One container of one role. Call with root, role, metrics and, for more mounts and ports, mounts and ports. */ -}}
{{- define "custody.container" -}}
- name: {{ .role }}
  image: {{ include "custody.image" .root }}
  imagePullPolicy: IfNotPresent
  command: [/usr/bin/custody]
  args:
    - serve
    - --roles={{ .role }}
    - --state=/var/lib/custody
    - --config=/etc/custody/config.toml
    {{- range .arguments }}
    - {{ . | quote }}
    {{- end }}
  {{- if or .root.Values.metrics.enabled .ports }}
  ports:
    {{- if .root.Values.metrics.enabled }}
    - { name: metrics-{{ .short }}, containerPort: {{ .metrics }} }
    {{- end }}
    {{- with .ports }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- end }}
  {{- if .root.Values.metrics.enabled }}
  livenessProbe:
    httpGet: { path: /healthz, port: metrics-{{ .short }} }
    initialDelaySeconds: 20
    periodSeconds: 20
  readinessProbe:
    httpGet: { path: /healthz, port: metrics-{{ .short }} }
    periodSeconds: 5
  {{- end }}
  resources: {{ toYaml .resources | nindent 4 }}
  securityContext: {{ include "custody.security" .root | nindent 4 }}
  volumeMounts:
    - { name: state-{{ .short }}, mountPath: /var/lib/custody }
    - { name: subjects, mountPath: /var/lib/custody-subjects }
    {{- if not (has .role (list "projector" "api")) }}
    - { name: secret-{{ .short }}, mountPath: /var/lib/custody/keys/{{ .role }}.ed25519, subPath: key, readOnly: true }
    {{- end }}
    - { name: secret-{{ .short }}, mountPath: /etc/custody/users/{{ .role }}.nk, subPath: user, readOnly: true }
    - { name: secret-{{ .short }}, mountPath: /etc/custody/users/operator.nk, subPath: operator, readOnly: true }
    - { name: config, mountPath: /etc/custody/config.toml, subPath: {{ .role }}.toml, readOnly: true }
    - { name: runners, mountPath: /etc/custody/runners, readOnly: true }
    {{- with .mounts }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}

{{- define "custody.commonVolumes" -}}
- name: config
  configMap: { name: {{ .Release.Name }}-config }
- name: runners
  configMap: { name: {{ .Release.Name }}-runners }
- name: subjects
  persistentVolumeClaim: { claimName: {{ .Release.Name }}-subjects }
{{- end }}
