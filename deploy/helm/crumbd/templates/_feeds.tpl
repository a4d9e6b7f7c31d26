{{/* The rules of the ClusterRole: what the `kubernetes:` feeds read, as YAML. Empty without such a feed. */}}
{{- define "crumbd.rules" -}}
{{- $resources := list -}}
{{- $asks_for_cluster := false -}}
{{- range .Values.feeds -}}
  {{- $feed := regexReplaceAll "^[a-z0-9][a-z0-9._-]*=" . "" -}}
  {{- if and (hasPrefix "kubernetes:" $feed) (not (contains "kubeconfig=" $feed)) -}}
    {{- $asks_for_cluster = or $asks_for_cluster (not (regexMatch "[?&]cluster=" $feed)) -}}
    {{- range regexFindAll "[?&]resource=[^&]+" $feed -1 -}}
      {{- $resources = append $resources (regexReplaceAll "^[?&]resource=" . "") -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $resources | uniq | sortAlpha }}
{{- $parts := splitList "/" . }}
- apiGroups: [{{ if eq (len $parts) 3 }}{{ first $parts | quote }}{{ else }}""{{ end }}]
  resources: [{{ last $parts | quote }}]
  verbs: [list, watch]
{{- end }}
{{- if $asks_for_cluster }}
# The UID of this namespace names the cluster.
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [kube-system]
  verbs: [get]
{{- end }}
{{- end -}}

{{/* Whether a pod needs the token of its service account. */}}
{{- define "crumbd.usesServiceAccount" -}}
{{- range .Values.feeds -}}
{{- $feed := regexReplaceAll "^[a-z0-9][a-z0-9._-]*=" . "" -}}
{{- if and (hasPrefix "kubernetes:" $feed) (not (contains "kubeconfig=" $feed)) }}true{{ end -}}
{{- end -}}
{{- end -}}
