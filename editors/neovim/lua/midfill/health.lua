--- `:checkhealth midfill`
local M = {}

local function check_server_command()
  local cmd = vim.lsp.config.midfill.cmd
  if type(cmd) ~= "table" then
    return
  end
  if vim.fn.executable(cmd[1]) == 1 then
    vim.health.ok("Language server command: " .. table.concat(cmd, " "))
  else
    vim.health.error(("`%s` is not executable"):format(cmd[1]), {
      "Install the server (`pip install midfill`),",
      'or say how to start it: require("midfill").setup({ cmd = { "/path/to/midfill-lsp" } })',
    })
  end
end

local function check_client()
  local client = require("midfill.client").running()
  if not client then
    vim.health.warn("The language server is not running.", "Open a file, then look into :Midfill log and the LSP log")
    return
  end
  vim.health.ok(("Language server is running, attached to %d buffers"):format(vim.tbl_count(client.attached_buffers)))
  if not client:supports_method("textDocument/inlineCompletion") then
    vim.health.error("The server does not offer inline completion: another program answers to this command?")
  end
  local status = require("midfill.status").get(next(client.attached_buffers))
  if status and status.kind ~= "Normal" then
    vim.health.warn(("Status %s: %s"):format(status.kind, status.message or ""), "Run :Midfill doctor")
  end
end

function M.check()
  vim.health.start("midfill")
  if vim.fn.has("nvim-0.12") == 0 then
    vim.health.error("Neovim 0.12 or newer is needed; this is " .. tostring(vim.version()))
    return
  end
  vim.health.ok("Neovim " .. tostring(vim.version()))
  if not vim.lsp.is_enabled("midfill") then
    vim.health.warn("Not set up.", 'Call require("midfill").setup() in your init.lua')
    return
  end
  check_server_command()
  if vim.lsp.inline_completion.is_enabled() then
    vim.health.ok("Inline completion is enabled")
  else
    vim.health.warn("Inline completion is switched off.", "vim.lsp.inline_completion.enable()")
  end
  check_client()
end

return M
