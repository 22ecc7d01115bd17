--- `:checkhealth midfill`
local M = {}

local DOCTOR_MS = 20000

---@return string[]? # how the server is started; nil when that is a function
local function command()
  local config = vim.fn.has("nvim-0.12") == 1 and vim.lsp.config.midfill or require("midfill.client").config()
  local running = require("midfill.client").running()
  local cmd = running and running.config.cmd or config.cmd
  return type(cmd) == "table" and cmd or nil
end

local function check_server_command()
  local cmd = command()
  if not cmd then
    return
  end
  if vim.fn.executable(cmd[1]) == 1 then
    vim.health.ok("Language server command: " .. table.concat(cmd, " "))
  else
    vim.health.error(("`%s` is not executable"):format(cmd[1]), {
      "Install the server (`pip install .` in the folder of Midfill's source),",
      'or say how to start it: require("midfill").setup({ cmd = { "/path/to/midfill-lsp" } })',
    })
  end
end

---@param report string of the server's doctor: a finding a line
local function relay(report)
  for line in vim.gsplit(report, "\n", { plain = true }) do
    local kind, finding = line:match("^(%a+): (.*)$")
    if kind == "ok" then
      vim.health.ok(finding)
    elseif kind == "PROBLEM" then
      vim.health.error(finding)
    else
      vim.health.info(line)
    end
  end
end

local function check_client()
  local clients = require("midfill.client")
  local client = clients.running()
  if not client then
    vim.health.warn("The language server is not running.", "Open a file, then look into :Midfill log and the LSP log")
    return
  end
  vim.health.ok(("Language server is running, attached to %d buffers"):format(vim.tbl_count(client.attached_buffers)))
  local status = require("midfill.status").get(next(client.attached_buffers))
  if status and status.kind ~= "Normal" then
    vim.health.warn(("Status %s: %s"):format(status.kind, status.message or ""))
  end
  local report
  clients.execute(client, "midfill.doctor", function(err, result)
    report = err and ("PROBLEM: " .. err.message) or result or ""
  end)
  vim.wait(DOCTOR_MS, function()
    return report ~= nil
  end, 50)
  relay(report or "PROBLEM: the language server does not answer")
end

function M.check()
  vim.health.start("midfill")
  if vim.fn.has("nvim-0.10") == 0 then
    vim.health.error("Neovim 0.12 is needed, or 0.10 without ghost text; this is " .. tostring(vim.version()))
    return
  end
  local ghost = vim.fn.has("nvim-0.12") == 1
  if ghost then
    vim.health.ok("Neovim " .. tostring(vim.version()))
  else
    vim.health.warn(
      ("Neovim %s has no ghost text: completions come in the popup menu"):format(tostring(vim.version())),
      "Use Neovim 0.12 or newer"
    )
  end
  if ghost and not vim.lsp.is_enabled("midfill") then
    vim.health.warn("Not set up.", 'Call require("midfill").setup() in your init.lua')
    return
  end
  check_server_command()
  if ghost and vim.lsp.inline_completion.is_enabled() then
    vim.health.ok("Inline completion is enabled")
  elseif ghost then
    vim.health.warn("Inline completion is switched off.", "vim.lsp.inline_completion.enable()")
  end
  check_client()
end

return M
