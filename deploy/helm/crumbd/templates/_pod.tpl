{{/* The template of the pods of both the Deployment and the StatefulSet. */}}
{{- define "crumbd.pod" -}}
metadata:
  labels:
    {{- include "crumbd.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # The daemon reads its settings at the start only, so pods with other settings are new pods.
    checksum/config: {{ include "crumbd.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "crumbd.serviceAccountName" . }}
  automountServiceAccountToken: {{ if include "crumbd.usesServiceAccount" . }}true{{ else }}false{{ end }}
  # Variables such as CRUMBD_PORT, which a Service called crumbd would set, are not settings of the daemon.
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # The pause before SIGTERM, the drain, and the time to write the state.
  terminationGracePeriodSeconds: {{ add (int .Values.preStopSeconds) (int .Values.drainSeconds) 15 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 7811
    runAsGroup: 7811
    fsGroup: 7811
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: crumbd
      image: {{ include "crumbd.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - serve
        - --config=/etc/crumbd/config/crumbd.toml
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if or .Values.extraEnv .Values.tls.clientCa }}
      env:
        {{- if .Values.tls.clientCa }}
        # For `crumbd health` of the probes, and for other commands in the pod.
        - name: CRUMBD_URL
          value: https://localhost:7811
        - name: CRUMBD_CA_CERT
          value: /etc/crumbd/probe/ca.crt
        - name: CRUMBD_CLIENT_CERT
          value: /etc/crumbd/probe/tls.crt
        - name: CRUMBD_CLIENT_KEY
          value: /etc/crumbd/probe/tls.key
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        - name: {{ include "crumbd.scheme" . }}
          containerPort: 7811
          protocol: TCP
        {{- if .Values.etcdListen.enabled }}
        - name: etcd
          containerPort: 2379
          protocol: TCP
        {{- end }}
      # A state on the disk is read and checked before the first answer.
      startupProbe:
        {{- include "crumbd.probe" (dict "root" . "path" "/livez" "args" (list "--live")) | nindent 8 }}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 150
      # Fails only where a restart helps, never because the feed is away.
      livenessProbe:
        {{- include "crumbd.probe" (dict "root" . "path" "/livez" "args" (list "--live")) | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      # Ready once there is a state to serve.
      readinessProbe:
        {{- include "crumbd.probe" (dict "root" . "path" "/readyz" "args" list) | nindent 8 }}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      lifecycle:
        preStop:
          # Load balancers learn that the pod ends before it takes no more connections.
          sleep:
            seconds: {{ int .Values.preStopSeconds }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/crumbd/config
          readOnly: true
        {{- if ne .Values.state.type "none" }}
        - name: state
          mountPath: /var/lib/crumbd
        {{- end }}
        {{- range include "crumbd.secrets" . | fromYamlArray }}
        - name: {{ .name }}
          mountPath: /etc/crumbd/{{ .name }}
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "crumbd.fullname" . }}
    {{- if eq .Values.state.type "emptyDir" }}
    - name: state
      emptyDir: {{ if .Values.state.sizeLimit }}{ sizeLimit: {{ .Values.state.sizeLimit }} }{{ else }}{}{{ end }}
    {{- end }}
    {{- range include "crumbd.secrets" . | fromYamlArray }}
    - name: {{ .name }}
      secret:
        secretName: {{ .secret }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if gt (int .Values.replicas) 1 }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "crumbd.selectorLabels" $ | nindent 10 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* A probe over HTTP, or where clients need a certificate, which the kubelet has not, with `crumbd health`. */}}
{{- define "crumbd.probe" -}}
{{- if .root.Values.tls.clientCa -}}
exec:
  command: {{ concat (list "/usr/local/bin/crumbd" "health") .args | toJson }}
{{- else -}}
httpGet:
  path: {{ .path }}
  port: {{ include "crumbd.scheme" .root }}
  {{- if .root.Values.tls.secret }}
  scheme: HTTPS
  {{- end }}
{{- end -}}
{{- end -}}

{{/* The Secrets that are mounted below /etc/crumbd, each with the name of its volume. */}}
{{- define "crumbd.secrets" -}}
{{- $secrets := list -}}
{{- range $name, $secret := dict "tokens" .Values.tokens.secret "cursor-key" .Values.cursorKey.secret "tls" .Values.tls.secret "probe" (ternary .Values.tls.probeSecret "" .Values.tls.clientCa) "etcd-tls" .Values.etcd.tlsSecret "etcd-password" .Values.etcd.passwordSecret -}}
{{- if $secret -}}
{{- $secrets = append $secrets (dict "name" $name "secret" $secret) -}}
{{- end -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}
