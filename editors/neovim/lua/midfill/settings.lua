-- Written by tools/sync_settings.py from lsp_server/settings.py.

---@class midfill.Settings
---@field endpoint? string Where completions come from: "local" (a service on this machine), or the URL of a Midfill service.
---@field fallbackEndpoints? string[] URLs of further services, asked in this order while those before them do not answer.
---@field enable? boolean Show completions.
---@field token? string API key of the service. Prefer the environment variable MIDFILL_TOKEN, tokenFile or tokenCommand: settings files get shared.
---@field tokenFile? string File that holds the API key; it must be readable by you alone (mode 0600).
---@field tokenCommand? string[] Program and arguments that print the API key, for example ["pass", "show", "midfill"]; run when the key is needed first, and again when the service refuses it.
---@field tls? midfill.Settings.tls
---@field proxy? string URL of an HTTP proxy; empty means that HTTPS_PROXY and HTTP_PROXY decide. Hosts in NO_PROXY and this machine are asked without it.
---@field localIdleMinutes? integer Minutes that the service on this machine goes on after the last editor was closed.
---@field trigger? "automatic"|"manual" Complete while you type, or only when asked by hand.
---@field debounceMs? integer Milliseconds without typing before a completion is requested; several times as long while the service is loaded, or slower than you type.
---@field showDelayMs? integer Milliseconds without typing before a new completion is shown, however early it is there.
---@field requestTimeoutMs? integer Milliseconds after which a request to the service is given up.
---@field mode? "auto"|"line"|"block" Complete the rest of the line, a whole block, or decide by the place of the cursor.
---@field maxLines? integer Longest completion shown, in lines.
---@field maxTokens? integer Most tokens the service may generate for one completion.
---@field minConfidence? integer Hide completions to which the model gives less than this many per cent a token, on average; 0 shows them all, and so does asking by hand.
---@field askAhead? boolean While a completion is displayed, ask for what comes after it, unless the service is busy.
---@field completeComments? boolean Show completions in comments.
---@field completeStrings? boolean Show completions in strings.
---@field feedback? boolean Tell the service what became of completions: ids and numbers of characters, never code.
---@field context? midfill.Settings.context
---@field minCharacters? integer Hide completions shorter than this, such as a lone bracket, unless asked by hand.
---@field leadingWhitespace? boolean Complete where nothing but whitespace stands left of the cursor; switched off, Tab always indents there.
---@field pauseOnBattery? boolean No completions while the computer runs on battery, except when asked by hand.
---@field disabledLanguages? string[] Language identifiers without completions, for example ["markdown", "plaintext"]; ["*", "!python"] leaves Python alone.
---@field disabledGlobs? string[] Files without completions, besides those that usually hold secrets; a pattern starting with "!" allows a file again, also one that .gitignore or .midfillignore names.
---@field outsideWorkspace? boolean Complete in files outside the folders that are open in the editor, too.
---@field redactSecrets? boolean Replace keys, passwords and tokens by x before anything is sent.

---@class midfill.Settings.tls
---@field caBundle? string PEM file with certificate authorities to trust besides those of the operating system.
---@field clientCert? string PEM file with the certificate that tells the service who you are.
---@field clientKey? string PEM file with the private key of tls.clientCert, without a passphrase; not needed if that file holds both.

---@class midfill.Settings.context
---@field enable? boolean Send parts of other open files, recent edits and signatures of imported names along.

---@type midfill.Settings
return {
  endpoint = "local",
  fallbackEndpoints = {},
  enable = true,
  token = "",
  tokenFile = "",
  tokenCommand = {},
  tls = {
    caBundle = "",
    clientCert = "",
    clientKey = "",
  },
  proxy = "",
  localIdleMinutes = 10,
  trigger = "automatic",
  debounceMs = 20,
  showDelayMs = 0,
  requestTimeoutMs = 5000,
  mode = "auto",
  maxLines = 12,
  maxTokens = 128,
  minConfidence = 30,
  askAhead = true,
  completeComments = true,
  completeStrings = true,
  feedback = true,
  context = {
    enable = true,
  },
  minCharacters = 1,
  leadingWhitespace = true,
  pauseOnBattery = false,
  disabledLanguages = {},
  disabledGlobs = {},
  outsideWorkspace = false,
  redactSecrets = true,
}
