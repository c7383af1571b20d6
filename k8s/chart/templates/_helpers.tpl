{{/* Labels of everything. Helm adds its own; plain manifests, which are made of the same templates, need none of it. */}}
{{- define "weft.labels" -}}
app.kubernetes.io/part-of: weft
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* What the control plane's pods are found by. */}}
{{- define "weft.control.selector" -}}
app.kubernetes.io/name: weft-control
app.kubernetes.io/part-of: weft
{{- end }}

{{/* An image: (list . "control"). */}}
{{- define "weft.image" -}}
{{- $top := index . 0 -}}
{{ printf "%s/%s:%s" $top.Values.image.registry (index . 1) ($top.Values.image.tag | default $top.Chart.AppVersion) }}
{{- end }}

{{/* The level "restricted" of Pod Security, for a container. */}}
{{- define "weft.restricted" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/*
The control plane's settings. Values are written as JSON, which TOML reads as the same text, number or list; TOML's own
writer would make fractions of whole numbers.
*/}}
{{- define "weft.control.toml" -}}
{{- $registry := printf "kubernetes/%s" .Values.cluster.name -}}
trust_domain = {{ .Values.trustDomain | toJson }}
state_dir = "/var/lib/weft"
log = {{ .Values.control.logLevel | toJson }}
log_format = "json"

[admin]
listen = "127.0.0.1:15014"

[[registry]]
id = {{ $registry | toJson }}
required = true

[registry.kubernetes]
network = {{ .Values.cluster.network | toJson }}

[registry.kubernetes.namespaces]
include = {{ .Values.cluster.namespaces.include | toJson }}
exclude = {{ .Values.cluster.namespaces.exclude | toJson }}
{{- with .Values.cluster.namespaces.selector }}
selector = {{ . | toJson }}
{{- end }}

[ca.kubernetes.{{ $registry | toJson }}]
audience = "weft"
{{- if .Values.control.ca.secretName }}

[ca.own_pem]
roots = "/etc/weft/ca/roots.pem"
chain = "/etc/weft/ca/chain.pem"
key = "/etc/weft/ca/key.pem"
{{- else }}

[ca.secret]
registry = {{ $registry | toJson }}
{{- end }}
{{- if .Values.control.registrySecrets }}

[registry_secrets]
registry = {{ $registry | toJson }}
{{- end }}
{{- if .Values.injection.enabled }}

[webhook]
registry = {{ $registry | toJson }}
names = [{{ printf "weft-control.%s.svc" .Release.Namespace | toJson }}]
configuration = "weft-injector"

[webhook.injector]
image = {{ include "weft.image" (list . "proxy") | toJson }}
{{- with .Values.image.pullPolicy }}
image_pull_policy = {{ . | toJson }}
{{- end }}
control = [{{ printf "weft-control.%s.svc:15010" .Release.Namespace | toJson }}]
network = {{ .Values.cluster.network | toJson }}
cni = {{ .Values.cni.enabled }}
{{- range $key, $value := .Values.injection.settings }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- with .Values.control.extraSettings | trim }}

{{ . }}
{{- end }}
{{- end }}
