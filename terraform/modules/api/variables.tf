variable "prefix" {
  description = "What names start with."
  type        = string
}

variable "region" {
  description = "The region."
  type        = string
}

variable "account_id" {
  description = "The account."
  type        = string
}

variable "partition" {
  description = "The partition of ARNs."
  type        = string
}

variable "functions" {
  description = "The functions that answer, by their short name."
  type = map(object({
    name       = string
    invoke_arn = string
  }))
}

variable "routes" {
  description = "Short name of a function by `METHOD /path` (METHOD may be ANY, and {rest+} stands for the rest of a path; the most specific route wins)."
  type        = map(string)
}

variable "authorization" {
  description = "AWS_IAM, JWT or NONE."
  type        = string
}

variable "jwt" {
  description = "Issuer and audiences, for JWT."
  type = object({
    issuer    = string
    audiences = list(string)
  })
  default = null
}

variable "cors_origins" {
  description = "Origins whose pages may call."
  type        = list(string)
}

variable "throttle" {
  description = "Requests per second, and burst."
  type = object({
    rate  = number
    burst = number
  })
}

variable "log_retention_days" {
  description = "How long access logs are kept."
  type        = number
}

variable "kms_key_arn" {
  description = "The key of the access logs."
  type        = string
}
