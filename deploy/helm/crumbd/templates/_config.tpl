{{/* The file of `crumbd serve --config`. Strings, numbers and lists are spelt in TOML as in JSON. */}}
{{- define "crumbd.config" -}}
listen = "0.0.0.0:7811"
feed = {{ if eq (len .Values.feeds) 1 }}{{ first .Values.feeds | toJson }}{{ else }}{{ .Values.feeds | toJson }}{{ end }}
drain = "{{ int .Values.drainSeconds }}s"
{{- if ne .Values.state.type "none" }}
state-dir = "/var/lib/crumbd"
{{- end }}
{{- with .Values.etcdListen }}
{{- if .enabled }}
etcd-listen = "{{ with .collection }}{{ . }}={{ end }}0.0.0.0:2379"
{{- end }}
{{- end }}
{{- if .Values.tokens.secret }}
tokens = "/etc/crumbd/tokens/{{ .Values.tokens.key }}"
{{- end }}
{{- if .Values.cursorKey.secret }}
cursor-key = "/etc/crumbd/cursor-key/{{ .Values.cursorKey.key }}"
{{- end }}
{{- if .Values.tls.secret }}
tls-cert = "/etc/crumbd/tls/tls.crt"
tls-key = "/etc/crumbd/tls/tls.key"
{{- if .Values.tls.clientCa }}
tls-client-ca = "/etc/crumbd/tls/ca.crt"
{{- end }}
{{- end }}
{{- if .Values.etcd.tlsSecret }}
etcd-ca = "/etc/crumbd/etcd-tls/ca.crt"
{{- if .Values.etcd.clientCert }}
etcd-cert = "/etc/crumbd/etcd-tls/tls.crt"
etcd-key = "/etc/crumbd/etcd-tls/tls.key"
{{- end }}
{{- end }}
{{- with .Values.etcd.user }}
etcd-user = {{ . | toJson }}
etcd-password-file = "/etc/crumbd/etcd-password/{{ $.Values.etcd.passwordKey }}"
{{- end }}
{{- if and (regexMatch "(^|[ =])push:|[?&]write=true" (join " " .Values.feeds)) (not (hasKey .Values.config "max-upload-bytes")) }}
max-upload-bytes = "64MiB"
{{- end }}
{{- range $key, $value := .Values.config }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end -}}
