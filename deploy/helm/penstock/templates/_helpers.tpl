{{/* The release's name, unless it says penstock already. */}}
{{- define "penstock.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 57 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 57 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "penstock.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "penstock.labels" -}}
{{ include "penstock.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "penstock.metadata" -}}
name: {{ include "penstock.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "penstock.labels" . | nindent 2 }}
{{- end -}}

{{/*
The configuration. The longest stream is written into it, since the Pod must agree with it; a sidecar
is ready when its model server is, unless the values say otherwise.
*/}}
{{- define "penstock.config" -}}
{{- $config := dict "penstock" (dict) -}}
{{- if .Values.modelServer -}}
{{- $config = dict "penstock" (dict "readiness" "any") -}}
{{- end -}}
{{- $total := dict "penstock" (dict "timeouts" (dict "totalSeconds" (int .Values.longestStreamSeconds))) -}}
{{- mergeOverwrite $config (deepCopy .Values.config) $total | toPrettyJson -}}
{{- end -}}

{{- define "penstock.container" -}}
name: penstock
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if .Values.modelServer }}
# A native sidecar: started before the model server, stopped after it.
restartPolicy: Always
{{- end }}
args:
  - serve
  - --config=/etc/penstock/config/penstock.jsonc
  - --host=0.0.0.0
  - --admin-host=0.0.0.0
  - --drain-seconds={{ add 5 (int .Values.longestStreamSeconds) }}
  {{- if .Values.allowAnonymous }}
  - --allow-anonymous
  {{- end }}
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: http
    containerPort: 8080
  - name: admin
    containerPort: 9090
startupProbe:
  httpGet: {path: /startupz, port: admin}
  periodSeconds: 1
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
lifecycle:
  preStop:
    exec:
      command: [penstock, drain, --wait]
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: config
    mountPath: /etc/penstock/config
    readOnly: true
  {{- if .Values.keysSecret }}
  - name: keys
    mountPath: /etc/penstock/keys
    readOnly: true
  {{- end }}
{{- end -}}

{{/* Without it the model server would get SIGTERM at once and cut the streams penstock carries. */}}
{{- define "penstock.waitForStreams" -}}
preStop:
  exec:
    command:
      - sh
      - -c
      - >-
        sleep 7;
        while curl -fsS -m 2 http://127.0.0.1:9090/metrics
        | grep -q '^penstock_requests_in_flight [1-9]'; do sleep 1; done
{{- end -}}
