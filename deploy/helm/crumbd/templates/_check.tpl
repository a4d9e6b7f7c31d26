{{/* What values.schema.json cannot say: values that contradict each other. */}}
{{- define "crumbd.check" -}}
{{- $values := .Values -}}
{{- if not $values.feeds -}}
{{- fail "feeds is empty. Name at least one, such as feeds: [\"etcd://etcd:2379/app/\"]; `crumbd feeds` lists them all." -}}
{{- end -}}
{{- range $values.feeds -}}
  {{- $feed := regexReplaceAll "^[a-z0-9][a-z0-9._-]*=" . "" -}}
  {{- $kinds := "push:, file:, etcd://, etcds://, crumbd://, crumbds:// or kubernetes:" -}}
  {{- if hasPrefix "stdin:" $feed -}}
    {{- fail (printf "feeds has %q, but a pod has no standard input. Use one of %s" . $kinds) -}}
  {{- end -}}
  {{- if not (regexMatch "^(push:|file:|etcds?://|crumbds?://|kubernetes:)" $feed) -}}
    {{- fail (printf "feeds has %q, which is no feed. It begins with %s" . $kinds) -}}
  {{- end -}}
  {{- if hasPrefix "push:" $feed -}}
    {{- if gt (int $values.replicas) 1 -}}
      {{- fail (printf "replicas is %d, but the feed %q is a datastore of its own: two replicas would hold different data. Set replicas: 1, or use etcd://…?write=true" (int $values.replicas) .) -}}
    {{- end -}}
    {{- if eq $values.state.type "none" -}}
      {{- fail (printf "state.type is none, so the feed %q would lose every write at a restart. Set state.type: pvc" .) -}}
    {{- end -}}
  {{- end -}}
  {{- if and (hasPrefix "kubernetes:" $feed) (not (regexMatch "[?&]resource=[^&/]+/[^&]+" $feed)) -}}
    {{- fail (printf "feeds has %q without a type of objects. It is kubernetes:?resource=v1/pods or kubernetes:?resource=GROUP/VERSION/PLURAL" .) -}}
  {{- end -}}
{{- end -}}
{{- range $key := list "feed" "listen" "etcd-listen" "state-dir" "drain" "tokens" "cursor-key" "tls-cert" "tls-key" "tls-client-ca" "etcd-ca" "etcd-cert" "etcd-key" "etcd-user" "etcd-password-file" -}}
  {{- if hasKey $values.config $key -}}
    {{- fail (printf "config.%s is set by the chart itself. Use the chart's own value for it: feeds, etcdListen, state, drainSeconds, tokens, cursorKey, tls or etcd" $key) -}}
  {{- end -}}
{{- end -}}
{{- if and (hasKey $values.config "state-interval") (eq $values.state.type "none") -}}
{{- fail "config.state-interval has no effect with state.type: none. Remove one of the two" -}}
{{- end -}}
{{- if and $values.tls.clientCa (not $values.tls.secret) -}}
{{- fail "tls.clientCa needs TLS: set tls.secret to a Secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- if and $values.tls.clientCa (not $values.tls.probeSecret) -}}
{{- fail "with tls.clientCa the probes need a client certificate too: set tls.probeSecret to a Secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- if and $values.serviceMonitor.enabled $values.tokens.secret (not $values.serviceMonitor.tokenSecret) -}}
{{- fail "with tokens Prometheus needs one too: set serviceMonitor.tokenSecret to a Secret with a token of `crumbd token --admin`" -}}
{{- end -}}
{{- if and $values.serviceMonitor.enabled $values.tls.secret (not $values.serviceMonitor.tlsConfig) -}}
{{- fail "with TLS Prometheus needs the authority of the certificate: set serviceMonitor.tlsConfig" -}}
{{- end -}}
{{- if and $values.etcd.user (not $values.etcd.passwordSecret) -}}
{{- fail "etcd.user needs a password: set etcd.passwordSecret to a Secret that has it under the key etcd.passwordKey" -}}
{{- end -}}
{{- if and $values.etcd.passwordSecret (not $values.etcd.user) -}}
{{- fail "etcd.passwordSecret needs etcd.user, the user whose password it is" -}}
{{- end -}}
{{- end -}}
