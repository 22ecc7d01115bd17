-- For `vim.lsp.enable("midfill")` without setup(); setup() builds on the same table.
return require("midfill.client").config()
